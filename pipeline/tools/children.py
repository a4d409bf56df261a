"""Child processes: they import nothing foreign, are told nothing secret, and die with us.

    Popen(module("pipeline.run.worker"), env=environment())   it calls die_with_us() first
    Popen(tied(["cmake", …]))                             a foreign program

Standard library only: the set-up and `server` read it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.tools.tied import tie

PYTHON = (sys.executable, "-P")  # -P: the working directory is a stranger's, no module is in it

PLAIN = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "XDG_*")
GPU = ("LD_LIBRARY_PATH", "CUDA_*", "NVIDIA_*")
STAGE = (
    *(*PLAIN, *GPU, "SPECIALIST_*", "CC", "CXX", "NUMBA_CACHE_DIR", "TRITON_CACHE_DIR"),
    "OLLAMA_HOST",  # where Ollama renders a family by its own code, it is the user's that is asked
)
"""What a stage and the converter may know of the user's environment."""
OLLAMA = (
    *(*PLAIN, *GPU, "OLLAMA_*", "GGML_*", "GPU_*", "HIP_*", "HSA_*", "ROCR_*", "VK_*", "GODEBUG"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),  # these and the proxies: for what the user pulls with it
)
"""What a server that we start may know."""
SECRET = ("*KEY*", "*TOKEN*", "*SECRET*", "*PASSWORD*")  # never, whatever else they begin with

QUIET = {  # for the libraries of a stage: nothing is fetched, nothing is sent, starts are quick
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "WANDB_DISABLED": "true",
    "TRACKIO_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "GOMP_SPINCOUNT": "20000",  # longer is ruinous on a busy machine, less is slow on a quiet one
    "PYTHONUTF8": "1",
    "PYTHONSAFEPATH": "1",  # as -P, for what the libraries start
    "SPECIALIST_STAGE": "1",  # llama.cpp's warnings go to the stage's log
}

_PARENT = "SPECIALIST_PARENT"
_PACKAGE = Path(__file__).resolve().parent.parent
_START = (
    "import importlib.util, runpy, sys; "
    "spec = importlib.util.spec_from_file_location('pipeline', {package!r} + '/__init__.py'); "
    "module = sys.modules['pipeline'] = importlib.util.module_from_spec(spec); "
    "spec.loader.exec_module(module); "
    "runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
)


def module(name: str, *arguments: str) -> list[str]:
    """The command line that runs one of our modules, as `python -m` does.

    It is of this very package, wherever another one lies, and nothing beside the package can be
    imported: a `queue.py` there must not stand for Python's own.
    """
    return [*PYTHON, "-c", _START.format(package=str(_PACKAGE), name=name), *arguments]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Of a Python child: what is allowed, what keeps libraries quiet, and more."""
    return {**allowed(STAGE), **QUIET, _PARENT: str(os.getpid()), **(more or {})}


def allowed(names: Iterable[str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that fit one of the patterns, and no secret."""
    return {
        name: value
        for name, value in environ.items()
        if any(fnmatchcase(name, pattern) for pattern in names)
        and not any(fnmatchcase(name.upper(), pattern) for pattern in SECRET)
    }


def die_with_us() -> None:
    """The first thing that a Python child does: the kernel ends it when its parent ends."""
    tie(int(os.environ[_PARENT]))


def tied(command: Sequence[str]) -> list[str]:
    """A foreign program's command line, which dies with us."""
    wrapper = Path(__file__).with_name("tied.py")
    return [sys.executable, "-I", "-S", str(wrapper), str(os.getpid()), *command]
