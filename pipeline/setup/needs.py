"""What a machine must have: one sentence each, with the way out, before anything long starts."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pipeline.common import places
from pipeline.common.errors import Missing
from pipeline.setup.step import Step
from pipeline.tools import gpu as nvidia
from pipeline.tools import server
from pipeline.tools.host import address

GO = (1, 26)  # go.mod of Ollama 0.33 and 0.34
_GO_FETCHES_ITSELF = (1, 21)  # from here on Go downloads the newer Go that a module asks for
_INSTALL_OLLAMA = "install Ollama itself (https://ollama.com/download) instead of building it"


def check(steps: Iterable[Step]) -> None:
    """Everything that these steps need.

    Raises:
        PipelineError: the first thing that is missing.
    """
    linux()
    where = address()
    if not server.answers(where):
        server.refuse_to_shadow(where)
    for need in dict.fromkeys(need for step in steps for need in step.needs):
        need()
    disk(place for step in steps for place in step.space)


def linux() -> None:
    """Linux on x86-64, WSL2 included."""
    here = (platform.system(), platform.machine())
    if here != ("Linux", "x86_64"):
        raise Missing(
            f"This is {' on '.join(here)}; it runs on Linux on x86-64",
            "On Windows use WSL2 (wsl --install); else a Linux machine or virtual machine.",
        )


def venv() -> None:
    """Python's venv module with pip in it, which Debian keeps in a package of its own."""
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise Missing(
            f"This Python ({sys.executable}) cannot make virtual environments",
            f"sudo apt install python3.{sys.version_info.minor}-venv",
        )


@cache
def compiler() -> None:
    """A C and a C++ compiler that make a program with the standard headers."""
    for variable, names, suffix, code in (
        ("CC", ("cc", "gcc", "clang"), ".c", "#include <stdlib.h>\nint main(void) { return 0; }\n"),
        ("CXX", ("c++", "g++", "clang++"), ".cpp", "#include <vector>\nint main() { return 0; }\n"),
    ):
        wanted = [os.environ[variable].split()[0]] if os.environ.get(variable) else names
        found = next(filter(None, map(shutil.which, wanted)), None)
        if not found or not _compiles(found, suffix, code):
            language = "C" if variable == "CC" else "C++"
            raise Missing(f"No working {language} compiler", "sudo apt install build-essential")


def _compiles(compiler: str, suffix: str, code: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"try{suffix}"
        source.write_text(code)
        command = [compiler, str(source), "-o", f"{folder}/try"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def go() -> None:
    """Go, new enough for Ollama; asked only where no Ollama is installed."""
    wanted = ".".join(map(str, GO))
    if not shutil.which("go"):
        raise Missing(
            "No Ollama on this machine, and no Go to build one",
            f"Install Go {wanted} (https://go.dev/dl), or {_INSTALL_OLLAMA}.",
        )
    version = _go_says("version")
    found = re.search(r"go(\d+)\.(\d+)", version)
    number = (int(found[1]), int(found[2])) if found else (0, 0)
    itself = number >= _GO_FETCHES_ITSELF and _go_says("env", "GOTOOLCHAIN").strip() != "local"
    if number < GO and not itself:
        raise Missing(
            f"Ollama {places.OLLAMA} is built with Go {wanted} or newer; this is {version.strip()}",
            f"Install Go {wanted} (https://go.dev/dl), or {_INSTALL_OLLAMA}.",
        )


def user_cache() -> Path:
    """The folder of all caches, where uv and Go keep theirs too."""
    value = os.environ.get("XDG_CACHE_HOME", "")
    return Path(value) if value.startswith("/") else Path.home() / ".cache"


def go_modules() -> Path:
    """Go's cache of unpacked modules."""
    return Path(_go_says("env", "GOMODCACHE").strip())


def _go_says(*arguments: str) -> str:
    return subprocess.run(["go", *arguments], capture_output=True, text=True, check=False).stdout


def gpu(device: str) -> None:
    """An NVIDIA device that is there must be usable, unless `device` is cpu."""
    if device != "cpu" and (reason := nvidia.unusable()):
        raise Missing(
            reason, "Update the driver, or train without it: make specialist DEVICE=cpu …"
        )


def disk(space: Iterable[tuple[Path, float]]) -> None:
    """Free space, in GB, summed over the places that share a disk."""
    wanted: dict[int, float] = {}
    for place, size in space:
        existing = next(folder for folder in (place, *place.parents) if folder.exists())
        device = existing.stat().st_dev
        wanted[device] = wanted.get(device, 0) + size
        free = shutil.disk_usage(existing).free / 1e9
        if free < wanted[device]:
            raise Missing(
                f"Only {free:.1f} GB are free where {existing} is; "
                f"the set-up needs {wanted[device]:.0f} GB there",
                "Make room, or put the caches elsewhere: XDG_CACHE_HOME=/big/disk make …",
            )
