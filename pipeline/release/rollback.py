"""Let NAME be another one of its versions again, without a new proof: its model has not changed.

Ollama moves first, then the head of the history. If a run is killed in between, the head is
behind; what is served is read from Ollama everywhere, and the next `make` mends the head.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline.common.errors import BadInput, Unreadable
from pipeline.common.names import full
from pipeline.made.artifacts import Packed
from pipeline.release import history, made_of, promotion
from pipeline.release.history import History
from pipeline.release.locks import alone, steady, turn
from pipeline.release.publish import put_right
from pipeline.release.tags import Tags, copy
from pipeline.release.text import write_text
from pipeline.release.version import Version
from pipeline.run.store import Store
from pipeline.tools.ollama import Ollama


def rollback(name: str, ollama: Ollama, number: int | None, say: Callable[[str], None]) -> Version:
    """Move NAME:latest to a version.

    Args:
        number: by default the newest one before what is served that is another model; if NAME is
            gone from Ollama, the one that it was last.

    Returns: what is served now.

    Raises:
        BadInput: there is no such version, its tag is gone or another model's, it is served
            already or was stopped, or NAME is a model that was not made here.
    """
    history.known(name)
    with alone(name, say):
        put_right(name, ollama, say)
        with turn(ollama.address, name), steady():
            known, tags = history.known(name), Tags.of(name, ollama.tags())
            served = known.served(tags.latest)
            _check_is_ours(known, tags, served)
            wanted = _wanted(known, tags, served, number)
            _check_is_good(wanted)
            _check_is_there(wanted, tags, known)
            numbers = set(known.head.versions)
            if kept := promotion.to_keep(name, known, tags, ollama):  # it lost its own tag
                promotion.keep(kept, known, tags, ollama)
                numbers.add(kept.version)
                known = history.update(known, versions=sorted(numbers))
            copy(ollama, wanted.tag, full(name), wanted.manifest)
            history.update(known, current=wanted.version)
        write_text(wanted, _file(wanted), say)
    return wanted


def _file(version: Version) -> Path | None:
    """Its GGUF in the store, if it is still there."""
    with suppress(Unreadable):
        packed = made_of.found(version, Store()).get("gguf")
        return packed.served.path if isinstance(packed, Packed) else None
    return None


def _check_is_ours(known: History, tags: Tags, served: Version | None) -> None:
    if tags.latest and not served:
        raise BadInput(
            f"{full(known.name)} is none of its versions: it was made or copied by hand",
            f"Keep it under another name if you want it (ollama cp {known.name} OTHER), remove it"
            f" (ollama rm {known.name}), and run the same command again.",
        )


def _wanted(known: History, tags: Tags, served: Version | None, number: int | None) -> Version:
    """The version that is meant."""
    if number is not None:
        wanted = version(known, number)
        if served and served.manifest == wanted.manifest:
            raise BadInput(
                f"{full(known.name)} is {wanted.label} already",
                f"See: specialist list {known.name}",
            )
        return wanted
    if served is None:
        return known.current
    there = [v for v in known.there if tags.versions.get(v.version) == v.manifest]
    others = [v for v in there if v.manifest != served.manifest and not v.stopped]
    before = [v for v in others if v.version < served.version]
    if not before:
        raise BadInput(
            f"there is no version of {known.name} before {served.label}",
            f"See which there are: specialist list {known.name}",
        )
    return before[-1]


def version(known: History, number: int) -> Version:
    """A version by its number.

    Raises:
        BadInput: there is none, or it was removed; with those that there are.
    """
    found = next((v for v in known.there if v.version == number), None)
    if found is None:
        said = "was removed" if number in known.head.versions else "does not exist"
        there = ", ".join(each.label for each in known.there)
        raise BadInput(f"v{number} of {known.name} {said}", f"There are: {there or 'none'}.")
    return found


def _check_is_good(wanted: Version) -> None:
    if wanted.stopped and wanted.verdict:
        raise BadInput(
            f"{wanted.tag} was not to be served: {'; '.join(wanted.verdict.reasons)}",
            f"Serve it in spite of that: make it again with --force --because '…'; to try it:"
            f" ollama run {wanted.tag}",
        )


def _check_is_there(wanted: Version, tags: Tags, known: History) -> None:
    now = tags.versions.get(wanted.version)
    if now != wanted.manifest:
        found = "is gone from Ollama" if now is None else "is another model now, made by hand"
        raise BadInput(
            f"{wanted.tag} {found} (it was released at {wanted.ollama})",
            f"Choose another one: specialist list {known.name}; or make it again.",
        )
