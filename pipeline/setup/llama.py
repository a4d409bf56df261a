"""llama.cpp's shared libraries, and the helpers that an Ollama of our own build runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.common import places
from pipeline.setup import needs
from pipeline.setup.packages import VENV, environ
from pipeline.setup.step import CORES, Step, Work

SERVER, QUANTIZER = "llama-server", "llama-quantize"  # the latter only for Ollama before 0.34.1
_LIBRARY_SECONDS = 180  # on one core
_HELPERS_SECONDS = 150

_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",  # the libraries lie beside the binaries, wherever that is
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_BUILD_SERVER=ON",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",  # would be downloaded
    "-DLLAMA_OPENSSL=OFF",
)


def library(helpers: tuple[str, ...] = ()) -> Step:
    """The build, for this machine's CPU.

    Args:
        helpers: programs of it that an Ollama of our own build runs.
    """
    wanted = ("libllama.so", *helpers)
    return Step(
        "llama.cpp",
        done=lambda: all((places.llama_bin() / name).exists() for name in wanted),
        run=lambda work: _build(work, helpers),
        seconds=(_LIBRARY_SECONDS + (_HELPERS_SECONDS if helpers else 0)) / CORES,
        needs=(needs.compiler,),
        space=((places.cache_home(), 1),),
    )


def _build(work: Work, helpers: tuple[str, ...]) -> None:
    """Build in a folder that an interrupted run finds again, then move whole what is needed."""
    tree = places.llama_bin().parent / "build"
    quick = Path(__file__).with_name("quick.cmake")
    cmake: list[str | Path] = [VENV / "bin" / "cmake", "-G", "Ninja", "-B", tree]
    cmake += [f"-DCMAKE_MAKE_PROGRAM={VENV / 'bin' / 'ninja'}"]  # another clone may have begun it
    cmake += ["-S", places.llama_cpp(), *_OPTIONS, f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={quick}"]
    work.child(cmake, environ())
    ninja: list[str | Path] = [
        VENV / "bin" / "ninja",
        "-C",
        tree,
        "-j",
        str(CORES + 1),
        "llama",
        *helpers,
    ]
    work.child(ninja, {**environ(), "NINJA_STATUS": "[%f/%t] "})
    _keep(tree / "bin")
    shutil.rmtree(tree)


def _keep(made: Path) -> None:
    draft = made.parents[1] / ".bin"
    former = made.parents[1] / ".former"
    for folder in (draft, former):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, draft, symlinks=True)
    if places.llama_bin().exists():  # the libraries alone, of an earlier day
        places.llama_bin().rename(former)
    draft.rename(places.llama_bin())
    shutil.rmtree(former, ignore_errors=True)
