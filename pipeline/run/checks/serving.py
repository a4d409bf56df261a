"""The Ollama of this machine: where, which, whole, and able to serve a specialist."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.common import places
from pipeline.common.errors import Missing, PipelineError
from pipeline.run.checks.finding import Finding, fail, ok, tried, warn
from pipeline.tools import host, server
from pipeline.tools.capable import capable
from pipeline.tools.ollama import Ollama

ANEW = (0, 34, 1)  # before it, llama-quantize writes an uploaded GGUF anew (docs/ollama.md)


def running() -> host.Address | None:
    """The address of an Ollama that answers; None where none does, or none may be asked."""
    try:
        where = host.address()
        return where if server.answers(where) else None
    except PipelineError:
        return None


def checks() -> Iterator[Finding]:
    """All of them; nothing is started."""
    yield tried("ollama", address)
    yield tried("helpers", helpers)
    if where := running():
        yield tried("serving", lambda: able(where))


def address() -> Finding:
    """Version and address, and whose it is."""
    where = host.address()
    if version := server.answers(where):
        own = any(each.port == where.port for each in server.ours())
        return ok("ollama", f"{version} at {where.url}{', started by us' if own else ''}")
    binary = server.startable(where)
    found = f"none answers at {where.url}; {binary} would be started"
    return warn("ollama", found, f"OLLAMA_HOST={where.netloc} {binary} serve")


def helpers() -> Finding:
    """The programs beside an Ollama of our own build; an installed one brings its own."""
    if installed := server.installed():
        return ok("helpers", f"those of {installed}")
    built = places.ollama_built()
    if not built.exists():
        if running():
            return ok("helpers", "those of the Ollama that answers, which is not on this disk")
        raise Missing("no Ollama is installed or built", "make setup")
    folder = built.parent.parent / "lib" / "ollama"
    wanted = ["llama-server", *(["llama-quantize"] if version(places.OLLAMA) < ANEW else [])]
    if lacking := [name for name in wanted if not shutil.which(name, path=str(folder))]:
        return fail("helpers", f"{' and '.join(lacking)} cannot be run in {folder}", "make setup")
    return ok("helpers", f"{' and '.join(wanted)} in {folder}")


def able(where: host.Address) -> Finding:
    """Whether it registers, renders and answers as a release needs it."""
    with Ollama(where) as ollama:
        capable(ollama)
    return ok("serving", "a Llama of a quarter of a megabyte was registered, rendered and asked")


def version(text: str) -> tuple[int, ...]:
    """`0.34.1-rc2` as numbers that compare: (0, 34, 1)."""
    return tuple(map(int, re.findall(r"\d+", text)[:3]))


def copies(text: str) -> int:
    """How often an Ollama of this version holds a GGUF that is uploaded to it."""
    return 2 if version(text) < ANEW else 1


def keeps(ollama: Ollama) -> tuple[Path, int]:
    """Its folder of models, and how often it holds a GGUF that is uploaded to it."""
    return models(ollama) or folder(), copies(ollama.version())


def folder() -> Path:
    """Where an Ollama of this user keeps its models, if nothing else is known."""
    return Path(os.environ.get("OLLAMA_MODELS") or Path.home() / ".ollama/models")


def models(ollama: Ollama) -> Path | None:
    """The folder of its models, as it tells of one of them; None where it has none, or far away."""
    for tag in ollama.tags():
        try:
            return ollama.stored_blob(tag).parent.parent
        except PipelineError:
            continue
    return None
