"""llama.cpp's shared libraries, and the helpers that an Ollama of our own build runs.

Both come out of one tree, the helpers first, with Ollama's compat layer (compat.py). The libraries
are linked again without it: what we compute ourselves is then the same where Ollama is installed.
"""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path

from pipeline.common import places
from pipeline.setup import compat, needs
from pipeline.setup.packages import VENV, environ
from pipeline.setup.step import CORES, Step, Work

SERVER, QUANTIZER = "llama-server", "llama-quantize"  # the latter only for Ollama before 0.34.1
_LIBRARY_SECONDS = 180  # on one core
_HELPERS_SECONDS = 180

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
    wanted = [places.llama_bin() / "libllama.so", *(places.llama_helpers() / n for n in helpers)]
    return Step(
        "llama.cpp",
        done=lambda: all(file.exists() for file in wanted),
        run=lambda work: _build(work, helpers),
        seconds=(_LIBRARY_SECONDS + (_HELPERS_SECONDS if helpers else 0)) / CORES,
        needs=(needs.compiler, *((needs.go,) if helpers else ())),
        space=((places.cache_home(), 1),),
    )


def _build(work: Work, helpers: tuple[str, ...]) -> None:
    """Build in a folder that an interrupted run finds again, then move whole what is needed."""
    tree = places.llama_bin().parent / "build"
    if helpers:
        compat.write(tree / "compat", compat.layer(work), places.llama_cpp())
        _make(work, tree, helpers, tree / "compat")
        _keep(tree / "bin", places.llama_helpers(), "*")
    _make(work, tree, ("llama",), None, quietly=bool(helpers))
    _keep(tree / "bin", places.llama_bin(), "libllama.so*", "libggml*")
    shutil.rmtree(tree)


def _make(
    work: Work, tree: Path, targets: tuple[str, ...], layer: Path | None, *, quietly: bool = False
) -> None:
    """Configure and compile.

    Args:
        layer: the folder of the compat layer, if it shall be in.
        quietly: it is nearly done, and the progress says so already.
    """
    quick = Path(__file__).with_name("quick.cmake")
    cmake: list[str | Path] = [VENV / "bin" / "cmake", "-G", "Ninja", "-B", tree]
    cmake += [f"-DCMAKE_MAKE_PROGRAM={VENV / 'bin' / 'ninja'}"]  # another clone may have begun it
    cmake += ["-S", places.llama_cpp(), *_OPTIONS, f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={quick}"]
    cmake += [f"-DOLLAMA_COMPAT={layer or ''}"]
    work.child(cmake, environ())
    ninja: list[str | Path] = [VENV / "bin" / "ninja", "-C", tree, "-j", str(CORES + 1), *targets]
    work.child(ninja, {**environ(), "NINJA_STATUS": "" if quietly else "[%f/%t] "})


def _keep(made: Path, final: Path, *patterns: str) -> None:
    """Copy the built files that match, links as links, in place of what an earlier day left."""
    draft, former = final.with_name(".draft"), final.with_name(".former")
    for folder in (draft, former):
        shutil.rmtree(folder, ignore_errors=True)
    draft.mkdir()
    for file in chain.from_iterable(made.glob(pattern) for pattern in patterns):
        shutil.copy2(file, draft / file.name, follow_symlinks=False)
    if final.exists():
        final.rename(former)
    draft.rename(final)
    shutil.rmtree(former, ignore_errors=True)
