"""Let NAME be a proven candidate; what NAME and NAME:previous were is never lost on the way.

    NAME:candidate-…   what is proven, and its manifest's digest
    NAME:spare-…       what NAME:previous was, until NAME has moved

Both are in a journal, `<home>/releases/NAME.promotion`, before they are in Ollama. Whatever
breaks off, this run or the next one reads there how to make all as it was. Their random parts have
no digit: Ollama chooses the renderer of some families by words such as `12b` in a model's name.
"""

from __future__ import annotations

import errno
import hashlib
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from pydantic import BaseModel, ConfigDict

from pipeline.common import places
from pipeline.common.errors import PipelineError, ToolFailed
from pipeline.common.names import CANDIDATE, PREVIOUS, SPARE, full
from pipeline.common.records import FORMAT, read
from pipeline.common.values import write_json
from pipeline.release import released
from pipeline.release.candidate import Candidate
from pipeline.release.released import Record
from pipeline.run.lease import turn
from pipeline.tools.host import Address, address
from pipeline.tools.ollama import Ollama

_LETTERS = "bcdfghjklmnpqrstvwxz"  # no vowel either: no word
_WAIT_SECONDS = 60.0  # for another promotion, which takes a second


class Journal(BaseModel):
    """What a release is about to change in Ollama, and what was there before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    server: str
    """Its address."""
    candidate: str
    spare: str
    moves: bool = False
    """True from when tags of NAME are changed."""
    new: str | None = None
    """Digest of the manifest that NAME is to have."""
    latest: str | None = None
    """That of NAME before."""
    previous: str | None = None
    """That of NAME:previous before."""
    record: Record | None = None
    """The record before."""


def fresh(tag: str) -> str:
    """A tag that nobody has."""
    return f"{tag}-{''.join(secrets.choice(_LETTERS) for _ in range(8))}"


def begin(name: str, ollama: Ollama) -> Journal:
    """Note the names that a release will use, before it uses them."""
    journal = Journal(
        server=ollama.address.url,
        candidate=full(name, fresh(CANDIDATE)),
        spare=full(name, fresh(SPARE)),
    )
    _note(name, journal)
    return journal


def promote(
    name: str,
    ollama: Ollama,
    candidate: Candidate,
    journal: Journal,
    record: Callable[[str | None], Record],
    check: Callable[[], None],
) -> None:
    """Let NAME be the candidate and NAME:previous what NAME was.

    Args:
        record: makes the record, given the digest of NAME:previous.
        check: raises if the name is not ours (any more).

    Raises:
        BadInput: meanwhile somebody else took the name.
        ToolFailed, ProofFailed: Ollama did not do as it said; all is what it was before.
    """
    latest, previous = full(name), full(name, PREVIOUS)
    with _turn(ollama.address, name), _steady():
        check()
        candidate.check(ollama)
        old, older = ollama.digest(latest), ollama.digest(previous)
        replaced = old not in (None, candidate.digest)
        before = released.released(name)
        now = {"moves": True, "new": candidate.digest, "latest": old, "previous": older}
        _note(name, journal.model_copy(update={**now, "record": before}))
        try:
            if replaced and older not in (None, old):
                _copy(ollama, previous, journal.spare, older)
            if replaced:
                _copy(ollama, latest, previous, old)
            new = record(old if replaced else older)
            released.write(new.model_copy(update={"earlier": _earlier(before, old, replaced)}))
            _copy(ollama, candidate.name, latest, candidate.digest)
            _note(name, journal)  # done: what is left to do is to remove its tags
        except BaseException:
            with suppress(PipelineError):  # the journal stays, and the next run reads it
                _undo(name, ollama)
            raise


def _earlier(before: Record | None, old: str | None, replaced: bool) -> list[str]:
    """Stages of what NAME:previous will be, where they are known."""
    if before is None:
        return []
    if not replaced:
        return before.earlier
    return before.stages if before.manifest == old else []


def undo(name: str, ollama: Ollama, say: Callable[[str], None] = lambda line: None) -> None:
    """Make all as a journal says it was, unless NAME has moved; remove its tags and it.

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
                f" remove {released.file(name, 'promotion')}.",
            )
        say(f"left in the Ollama at {journal.server}: {journal.candidate}")
        _forget(name)
        return
    with _turn(ollama.address, name), _steady():
        _undo(name, ollama)


def _undo(name: str, ollama: Ollama) -> None:
    if (journal := noted(name)) is None:  # another run was faster
        return
    latest, previous = full(name), full(name, PREVIOUS)
    now = ollama.digest(latest)
    if journal.moves and now != journal.new:
        if now in (None, journal.latest):  # else somebody else has taken the name meanwhile
            if now is None and ollama.digest(previous) == journal.latest is not None:
                _copy(ollama, previous, latest, journal.latest)
            if ollama.exists(journal.spare):
                _copy(ollama, journal.spare, previous, journal.previous)
            elif journal.previous is None and ollama.digest(previous) == journal.latest is not None:
                ollama.delete(previous)
        released.restore(name, journal.record)
    for leftover in (journal.candidate, journal.spare):
        if ollama.exists(leftover):
            with suppress(PipelineError):
                ollama.unload(leftover)  # out of memory, too; NAME shares its file
            ollama.delete(leftover)
    _forget(name)


def _steady() -> AbstractContextManager[None]:
    """While record and journal change, `gc` does not read what they name."""
    return turn(places.home() / "leases")


def _copy(ollama: Ollama, source: str, destination: str, digest: str | None) -> None:
    ollama.copy(source, destination)
    if ollama.digest(destination) != digest:
        raise ToolFailed(
            f"Ollama said yes to a copy, but {destination} is not {source}",
            "Look at the disk of Ollama's models, then run the same command again.",
        )


@contextmanager
def _turn(server: Address, name: str) -> Iterator[None]:
    """One promotion of a name at a time, whichever store of this machine it comes from.

    An abstract socket (man 7 unix) has no file: all users share it, and it goes with its process.
    """
    words = f"{server.port}/{name.lower()}"  # `localhost` may be any loopback address
    held_name = f"\0specialist/{hashlib.sha256(words.encode()).hexdigest()}"
    end = time.monotonic() + _WAIT_SECONDS
    with socket.socket(socket.AF_UNIX) as held:
        while True:
            try:
                held.bind(held_name)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if time.monotonic() > end:
                    raise ToolFailed(
                        f"another run has been registering {name} for a minute",
                        "Let it end, then run the same command again.",
                    ) from error
                time.sleep(0.05)
        yield


def _note(name: str, journal: Journal) -> None:
    write_json(released.file(name, "promotion"), journal.model_dump(mode="json"))


def noted(name: str) -> Journal | None:
    """The journal of a release that broke off, or that is going on; None if there is none.

    Raises:
        Unreadable: it is damaged or of another format.
    """
    way_out = (
        "It is the journal of a release that broke off: see with `ollama list` that "
        f"{name} is what it should be, then remove the file."
    )
    return read(released.file(name, "promotion"), Journal, way_out)


def broken_off() -> list[str]:
    """Names, in lower case, of which a release broke off or is going on."""
    return sorted(path.stem for path in released.folder().glob("*.promotion"))


def _forget(name: str) -> None:
    released.file(name, "promotion").unlink(missing_ok=True)
