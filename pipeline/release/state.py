"""What Ollama has of the versions now, and what it serves; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pipeline.common.errors import PipelineError
from pipeline.release.history import History
from pipeline.release.tags import Tags
from pipeline.release.version import Version
from pipeline.tools import host, server
from pipeline.tools.ollama import Ollama

State = Literal["served", "there", "previous", "gone", "changed", "removed", "elsewhere", "unknown"]
WORDS: dict[State, str] = {
    "served": "served now",
    "there": "",
    "previous": "",
    "gone": "gone from Ollama",
    "changed": "the tag is another model now",
    "removed": "removed",
    "elsewhere": "released in another Ollama",
    "unknown": "",
}


def in_ollama(found: Iterable[History]) -> list[tuple[History, Tags | None]]:
    """For each name the tags in its Ollama; None where that Ollama does not answer."""
    found = list(found)
    known = {url: _tags(url) for url in {one.current.ollama for one in found}}
    tags = ((one, known[one.current.ollama]) for one in found)
    return [(one, None if all_ is None else Tags.of(one.name, all_)) for one, all_ in tags]


def _tags(url: str) -> dict[str, str] | None:
    try:
        where = host.address({"OLLAMA_HOST": url})
        if not server.answers(where, timeout=1.0):
            return None
        with Ollama(where) as ollama:
            return ollama.tags()
    except PipelineError:
        return None


def has_any(known: History, tags: Tags | None) -> bool | None:
    """Whether Ollama has a version; None where it does not answer."""
    if tags is None:
        return None
    return any(state(known, v, tags) in ("served", "there", "previous") for v in known.there)


def state(known: History, version: Version, tags: Tags | None) -> State:
    """What a version is in Ollama."""
    if version not in known.there:
        return "removed"
    if tags is None:
        return "unknown"
    if known.served(tags.latest) is version:
        return "served"
    if (now := tags.versions.get(version.version)) == version.manifest:
        return "there"
    if known.head.unfinished and tags.previous == version.manifest:
        return "previous"
    if now is None:
        return "gone" if version.ollama == known.current.ollama else "elsewhere"
    return "changed"
