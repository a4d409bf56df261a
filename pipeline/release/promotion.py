"""Let NAME be a proven candidate, as a version of its own; what NAME was is never lost on the way.

    NAME:candidate-…   what is proven, and its manifest's digest
    NAME:vN            the same, from now on
    NAME:latest        moves last; then the head of the history names vN

All of it is in a journal, `<home>/releases/NAME.promotion`, before it is in Ollama. If anything
breaks off, this run or the next one reads there what to do: where NAME has not moved, all is made
as it was; where it has, the rest is done. The random part of a candidate's tag has no digit: Ollama
chooses the renderer of some families by words such as `12b` in a model's name.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from pydantic import BaseModel, ConfigDict

from pipeline.common.errors import PipelineError, ToolFailed
from pipeline.common.names import CANDIDATE, LETTERS, full
from pipeline.common.records import read_any
from pipeline.common.values import write_json
from pipeline.release import history, older, older_promotion
from pipeline.release.candidate import Candidate
from pipeline.release.history import Head, History
from pipeline.release.locks import steady, turn
from pipeline.release.tags import Tags, copy
from pipeline.release.version import Version
from pipeline.tools.host import address
from pipeline.tools.ollama import Ollama

FORMAT = 2


class Moves(BaseModel):
    """What changes in Ollama and in the history."""

    model_config = ConfigDict(frozen=True)

    new: Version
    kept: Version | None
    """What NAME was before, where no tag of a version holds it: it becomes one."""
    serves: bool = True
    """False where the verdict was stop: the new version gets its tag, and NAME stays."""


class Journal(BaseModel):
    """What a release is about to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    server: str
    """Its address."""
    candidate: str
    moves: Moves | None = None
    """From when tags of NAME are changed until it is done."""

    @property
    def leftovers(self) -> list[str]:
        """Tags to be removed."""
        return [self.candidate]

    @property
    def stages(self) -> set[str]:
        """Stage directories that only the journal may name."""
        return set(self.moves.new.stages) if self.moves else set()


AnyJournal = Journal | older_promotion.Journal


def fresh(tag: str) -> str:
    """A tag that nobody has."""
    return f"{tag}-{''.join(secrets.choice(LETTERS) for _ in range(8))}"


def begin(name: str, ollama: Ollama) -> Journal:
    """Note the name that a release will use, before it uses it."""
    journal = Journal(server=ollama.address.url, candidate=full(name, fresh(CANDIDATE)))
    _note(name, journal)
    return journal


def promote(
    name: str,
    ollama: Ollama,
    candidate: Candidate,
    journal: Journal,
    version: Callable[[int], Version],
    check: Callable[[], None],
) -> Version:
    """Let NAME and NAME:vN be the candidate; only NAME:vN where the verdict on it was stop.

    Args:
        version: makes the record, given the number.
        check: raises if the name is not ours (any more).

    Raises:
        BadInput: meanwhile somebody else took the name.
        ToolFailed, ProofFailed: Ollama did not do as it said; all is what it was before.
    """
    with turn(ollama.address, name), steady():
        check()
        candidate.check(ollama)
        moves = _moves(name, ollama, candidate, version)
        _note(name, journal.model_copy(update={"moves": moves}))
        try:
            _carry_out(name, ollama, moves, candidate.name)
            _note(name, journal)  # done: what is left to do is to remove the candidate
        except BaseException:
            with suppress(PipelineError, OSError):  # the journal stays, and the next run reads it
                _undo(name, ollama)
            raise
    return moves.new


def _moves(
    name: str, ollama: Ollama, candidate: Candidate, version: Callable[[int], Version]
) -> Moves:
    """With numbers that nobody has used, in the history or in Ollama."""
    known, tags = history.history(name), Tags.of(name, ollama.tags())
    number = next_number(known, tags)
    if (new := version(number)).stopped:
        return Moves(new=new, kept=None, serves=False)
    kept = None
    if tags.latest not in (None, candidate.digest):
        kept = to_keep(name, known, tags, ollama)
    taken = kept is not None and kept.version == number
    return Moves(new=version(number + taken), kept=kept)


def next_number(known: History | None, tags: Tags) -> int:
    """One that nobody has used, in the history or in Ollama."""
    return 1 + max([0, *(known.head.versions if known else []), *tags.versions])


def to_keep(name: str, known: History | None, tags: Tags, ollama: Ollama) -> Version | None:
    """What NAME is now, as a version, unless the tag of one holds it."""
    equal = [v for v in (known.there if known else []) if v.manifest == tags.latest]
    if tags.latest is None or any(tags.versions.get(v.version) == v.manifest for v in equal):
        return None
    for version in equal:
        if version.version not in tags.versions:  # removed by hand: it gets its tag back
            return version
    number = next_number(known, tags)
    if equal:  # somebody has put another model there
        return equal[-1].model_copy(update={"version": number})
    return Version(
        version=number,
        name=name,
        manifest=tags.latest,
        ollama=ollama.address.url,
        note=f"was {full(name)}, not made here",
    )


def _carry_out(name: str, ollama: Ollama, moves: Moves, candidate: str) -> None:
    """Each step where it is not done yet."""
    new, kept, latest = moves.new, moves.kept, full(name)
    tags = Tags.of(name, ollama.tags())
    known = history.history(name)
    if kept:
        keep(kept, known, tags, ollama)
    if tags.versions.get(new.version) != new.manifest:
        moved = tags.latest == new.manifest
        copy(ollama, latest if moved else candidate, new.tag, new.manifest)
    history.write_version(new)
    if moves.serves and tags.latest != new.manifest:
        copy(ollama, candidate, latest, new.manifest)
    history.write_head(_head(known, moves))


def keep(version: Version, known: History | None, tags: Tags, ollama: Ollama) -> None:
    """Give what NAME is now the tag of a version, and a record if it has none."""
    if version.version not in tags.versions and tags.latest == version.manifest:
        copy(ollama, full(version.name), version.tag, version.manifest)
    if not known or version.version not in known.head.versions:
        history.write_version(version)


def _head(known: History | None, moves: Moves) -> Head:
    numbers = {moves.new.version, *([moves.kept.version] if moves.kept else [])}
    head = known.head if known else Head(name="", current=0, versions=[])
    change = {
        "name": moves.new.name,
        "current": moves.new.version if moves.serves else head.current,
        "versions": sorted({*head.versions, *numbers}),
    }
    return head.model_copy(update=change)


def _take_back(name: str, ollama: Ollama, moves: Moves, tags: Tags) -> None:
    """Remove the tags and records of versions that the history does not have."""
    known = history.history(name)
    numbers = known.head.versions if known else []
    for version in filter(None, (moves.new, moves.kept)):
        if version.version in numbers:
            continue
        held = version is moves.new or tags.latest == version.manifest  # else it is the last one
        if held and tags.versions.get(version.version) == version.manifest:
            ollama.delete(version.tag)
        history.version_file(name, version.version).unlink(missing_ok=True)


def undo(name: str, ollama: Ollama, say: Callable[[str], None] = lambda line: None) -> None:
    """Make all as it was before the journal, or finish it if NAME has moved; remove its tags.

    Raises:
        PipelineError: Ollama does not do it, or it is another one. The journal stays.
    """
    journal = noted(name)
    if journal is None:
        return
    there = address({"OLLAMA_HOST": journal.server})
    if not there.same(ollama.address):
        if journal.moves:
            raise ToolFailed(
                f"a release of {name} broke off in the Ollama at {journal.server}",
                f"Run once with OLLAMA_HOST={there.netloc}; or, if that Ollama is gone for good,"
                f" remove {history.file(name, 'promotion')}.",
            )
        say(f"left in the Ollama at {journal.server}: {journal.candidate}")
        _forget(name)
        return
    with turn(ollama.address, name), steady():
        _undo(name, ollama)


def _undo(name: str, ollama: Ollama) -> None:
    if (journal := noted(name)) is None:  # another run was faster
        return
    if isinstance(journal, older_promotion.Journal):
        older_promotion.undo(name, ollama, journal)
    elif moves := journal.moves:
        tags = Tags.of(name, ollama.tags())
        if tags.latest == moves.new.manifest:
            _carry_out(name, ollama, moves, journal.candidate)
        else:
            _take_back(name, ollama, moves, tags)
    for leftover in journal.leftovers:
        if ollama.exists(leftover):
            with suppress(PipelineError):
                ollama.unload(leftover)  # out of memory, too; NAME shares its file
            ollama.delete(leftover)
    _forget(name)


def _note(name: str, journal: Journal) -> None:
    write_json(history.file(name, "promotion"), journal.model_dump(mode="json"))


def noted(name: str) -> AnyJournal | None:
    """The journal of a release that broke off, or that is going on; None if there is none.

    Raises:
        Unreadable: it is damaged or of another format.
    """
    way_out = (
        "It is the journal of a release that broke off: see with `ollama list` that "
        f"{name} is what it should be, then remove the file."
    )
    kinds: dict[int, type[BaseModel]] = {older.FORMAT: older_promotion.Journal, FORMAT: Journal}
    return cast(AnyJournal | None, read_any(history.file(name, "promotion"), kinds, way_out))


def broken_off() -> list[str]:
    """Names, in lower case, of which a release broke off or is going on."""
    return sorted(path.stem for path in history.folder().glob("*.promotion"))


def _forget(name: str) -> None:
    history.file(name, "promotion").unlink(missing_ok=True)
