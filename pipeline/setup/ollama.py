"""Ollama, where none is installed: built with Go, its helpers in ../lib/ollama beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.common import places
from pipeline.setup import needs
from pipeline.setup.compat import PACKAGE
from pipeline.setup.packages import VENV
from pipeline.setup.step import CORES, Step, Work
from pipeline.tools import server
from pipeline.tools.host import address

_SECONDS = 150  # on one core
_SECONDS_MORE = 30  # of a further version, which shares most packages


def own() -> bool:
    """True if this machine needs an Ollama of our own build.

    Raises:
        PipelineError: OLLAMA_HOST is not on this machine, or something else listens there.
    """
    if server.installed():
        return False
    return places.ollama_built().exists() or not server.answers(address())


def ollama(versions: tuple[str, ...], helpers: tuple[str, ...]) -> Step:
    """The builds of Ollama; the one of places.OLLAMA is linked into the virtual environment.

    Args:
        helpers: the programs of llama.cpp that they run.
    """
    links = _links(versions, helpers)
    return Step(
        "Ollama" if versions == (places.OLLAMA,) else f"Ollama {', '.join(versions)}",
        done=lambda: all(places.ollama_built(v).exists() for v in versions) and _hold(links),
        run=lambda work: _build(work, versions, links),
        seconds=(_SECONDS + _SECONDS_MORE * (len(versions) - 1)) / CORES,
        needs=(needs.compiler, needs.go),
        space=((places.cache_home(), 0.2), (_go_cache(), 2)),
        beside=True,
    )


def _go_cache() -> Path:
    return Path(os.environ.get("GOCACHE") or needs.user_cache() / "go-build")


def _links(versions: tuple[str, ...], helpers: tuple[str, ...]) -> dict[Path, Path]:
    """Where a link lies, and what it points to."""
    links = {
        # Ollama looks there and nowhere else
        places.ollama_built(version).parents[1] / "lib" / "ollama" / name: (
            places.llama_helpers() / name
        )
        for version in versions
        for name in helpers
    }
    if places.OLLAMA in versions:
        links[VENV / "bin" / "ollama"] = places.ollama_built()
    return links


def _hold(links: Mapping[Path, Path]) -> bool:
    return all(link.is_symlink() and link.readlink() == to for link, to in links.items())


def _build(work: Work, versions: tuple[str, ...], links: Mapping[Path, Path]) -> None:
    for version in versions:
        if not places.ollama_built(version).exists():
            _install(work, version)
    for link, to in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        beside = link.with_name(f".{link.name}")
        beside.unlink(missing_ok=True)
        beside.symlink_to(to)
        beside.replace(link)


def _install(work: Work, version: str) -> None:
    built = places.ollama_built(version)
    draft = built.parents[1] / ".draft"
    env = {
        "GOBIN": str(draft),
        "GOFLAGS": "",
        "CGO_CFLAGS": "-O1 -g0",  # its C code is SQLite, which the server does not use
        "CGO_CXXFLAGS": "-O1 -g0",
    }
    flags = f"-s -w -X={PACKAGE}/version.Version={version}"
    work.child(["go", "install", "-v", "-ldflags", flags, f"{PACKAGE}@v{version}"], env)
    built.parent.mkdir(parents=True, exist_ok=True)
    (draft / "ollama").rename(built)
    draft.rmdir()
