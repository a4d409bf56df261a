"""Ollama, where none is installed: built with Go, its helpers in ../lib/ollama beside it."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline import places
from pipeline.setup import needs
from pipeline.setup.llama import HELPERS
from pipeline.setup.packages import VENV
from pipeline.setup.step import CORES, Step, Work
from pipeline.tools import server
from pipeline.tools.host import address

_PACKAGE = "github.com/ollama/ollama"
_SECONDS = 150  # on one core


def own(binary: bool) -> bool:
    """True if this machine needs an Ollama of our own build.

    Args:
        binary: a server that answers is not enough, because tests start their own.

    Raises:
        PipelineError: OLLAMA_HOST is not on this machine, or something else listens there.
    """
    if server.installed():
        return False
    return binary or places.ollama_built().exists() or not server.answers(address())


def ollama() -> Step:
    """The build of Ollama, linked into the virtual environment."""
    return Step(
        "Ollama",
        done=lambda: places.ollama_built().exists() and _links_hold(),
        run=_build,
        seconds=_SECONDS / CORES,
        needs=(needs.compiler, needs.go),
        space=((places.cache_home(), 0.2), (_go_cache(), 2)),
        beside=True,
    )


def _go_cache() -> Path:
    return Path(os.environ.get("GOCACHE") or needs.user_cache() / "go-build")


def _links() -> dict[Path, Path]:
    """Where a link lies, and what it points to."""
    built = places.ollama_built()
    helpers = built.parents[1] / "lib" / "ollama"  # Ollama looks there and nowhere else
    links = {helpers / name: places.llama_bin() / name for name in HELPERS}
    return {**links, VENV / "bin" / "ollama": built}


def _links_hold() -> bool:
    return all(link.is_symlink() and link.readlink() == to for link, to in _links().items())


def _build(work: Work) -> None:
    built = places.ollama_built()
    if not built.exists():
        draft = built.parents[1] / ".draft"
        version = f"-X={_PACKAGE}/version.Version={places.OLLAMA}"
        env = {
            "GOBIN": str(draft),
            "GOFLAGS": "",
            "CGO_CFLAGS": "-O1 -g0",  # its C code is SQLite, which the server does not use
            "CGO_CXXFLAGS": "-O1 -g0",
        }
        package = f"{_PACKAGE}@v{places.OLLAMA}"
        work.child(["go", "install", "-v", "-ldflags", f"-s -w {version}", package], env)
        built.parent.mkdir(parents=True, exist_ok=True)
        (draft / "ollama").rename(built)
        draft.rmdir()
    for link, to in _links().items():
        link.parent.mkdir(parents=True, exist_ok=True)
        beside = link.with_name(f".{link.name}")
        beside.unlink(missing_ok=True)
        beside.symlink_to(to)
        beside.replace(link)
