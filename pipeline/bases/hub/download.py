"""A base from the hub to this machine: once, whole or not at all, every byte checked."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.bases import checkpoint
from pipeline.bases.hub import chosen, kept, part
from pipeline.bases.hub.door import Door
from pipeline.bases.hub.endpoint import check_online, endpoint
from pipeline.bases.hub.repository import Repository
from pipeline.bases.hub.tree import Entry, commit_of, tree
from pipeline.bases.located import Report, Say
from pipeline.common import private
from pipeline.common.errors import BadInput, Missing, Unpinned
from pipeline.common.progress import Progress
from pipeline.common.values import digest_of_file, sync, write_json
from pipeline.common.words import duration, size

EVERY = 1 << 20  # bytes between two reports


def bring(repository: Repository, report: Report, say: Say) -> str:
    """Have a repository's base on this machine.

    Args:
        say: told what is waited for, and what is tried again.

    Returns: what was done, in words; '' if it was there.

    Raises:
        BadInput: it cannot be had, or is no base that can be tuned and served.
        Missing: no network is wanted, or the disk is too small.
        ToolFailed: the hub or the network failed, several times.
    """
    if repository.commit and kept.record(repository):
        return ""
    check_online()
    with Door(endpoint(), repository) as door:
        if not repository.commit:
            raise _named(repository, commit_of(door, say))
        began = time.monotonic()
        with _alone(repository, say):
            if kept.record(repository):  # another run was first
                return ""
            count = _download(door, report, say)
    return f"downloaded {repository.name}, {size(count)}, in {duration(time.monotonic() - began)}"


class Tally:
    """How much of all files is there, told to whoever waits."""

    def __init__(self, repository: Repository, report: Report) -> None:
        self._name = repository.name
        self._report = report
        self._there: dict[str, int] = {}
        self._told = -EVERY
        self.total = 1

    @property
    def done(self) -> int:
        """Bytes."""
        return sum(self._there.values())

    def begin(self, folder: Path, entries: Iterable[Entry]) -> None:
        """What all is to come, and what of it is there."""
        self._there = {entry.name: part.present(folder, entry) for entry in entries}
        self.total = max(1, sum(entry.size for entry in entries))
        self.tell()

    def at(self, name: str, count: int) -> None:
        """So many bytes of a file are there."""
        self._there[name] = count
        if abs(self.done - self._told) >= EVERY or self.done == self.total:
            self.tell()

    def tell(self) -> None:
        """How far it is."""
        self._told = self.done
        note = f"{self._name}: {size(self.done)} of {size(self.total)}"
        self._report(Progress(self.done, self.total, note))


def _download(door: Door, report: Report, say: Say) -> int:
    """Fill the draft and give it its name; the number of bytes."""
    repository, tally = door.repository, Tally(door.repository, report)
    draft = private.folder(kept.draft(repository))
    found = tree(door, say)
    words = chosen.words(repository, found)
    for entry in words:
        if entry.name == checkpoint.INDEX:  # it says which files are the weights
            part.download(door, entry, draft, lambda count: None, say)
    weights = chosen.weights(repository, found, draft)
    _check_room(repository, [*words, *weights], draft)
    tally.begin(draft, [*words, *weights])
    for entry in words:
        part.download(door, entry, draft, partial(tally.at, entry.name), say)
    _check_words(repository, draft)
    for entry in weights:
        part.download(door, entry, draft, partial(tally.at, entry.name), say)
    _finish(door, [*words, *weights], draft)
    return tally.done


def _check_words(repository: Repository, draft: Path) -> None:
    """Refuse what its config.json alone tells, before its weights are downloaded."""
    try:
        checkpoint.check_words(draft)
    except BadInput as error:
        shutil.rmtree(draft)
        what = error.what.replace(str(draft), repository.text)
        raise BadInput(what, error.next_step) from error


def _check_room(repository: Repository, entries: list[Entry], draft: Path) -> None:
    total = sum(entry.size for entry in entries)
    missing = total - sum(part.present(draft, entry) for entry in entries)
    free = shutil.disk_usage(draft).free
    if missing > free:
        raise Missing(
            f"{repository.id} has {size(total)}, {size(missing)} of it are still to come, and"
            f" {size(free)} are free where {draft.parent} is",
            "Make room (specialist gc), or keep everything on another disk: SPECIALIST_HOME=DIR.",
        )


def _finish(door: Door, entries: list[Entry], draft: Path) -> None:
    """Write the record, then the name: from here on it is there."""
    repository = door.repository
    names = {entry.name: entry.sha256 for entry in entries}
    record = kept.Record(
        repository=repository.id,
        commit=repository.commit,
        endpoint=door.hub.url,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        files={n: known or digest_of_file(draft / n) for n, known in sorted(names.items())},
    )
    write_json(draft / kept.RECORD, record.model_dump(mode="json"))
    for odd in draft.iterdir():  # nothing else is in it that a reader could take for the base's
        if odd.name not in {*names, kept.RECORD}:
            odd.unlink()
    final = kept.folder(repository)
    draft.rename(final)
    sync(final.parent)


@contextmanager
def _alone(repository: Repository, say: Say) -> Iterator[None]:
    """One run at a time; the second one waits, and then finds it there."""
    final = kept.folder(repository)
    private.folder(final.parent)
    lock = FileLock(final.with_name(f"{final.name}.lock"), mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waits for another run, which downloads {repository.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _named(repository: Repository, commit: str) -> Unpinned:
    """A base is named by its content: what a branch holds changes."""
    at = repository.revision or "main"
    return Unpinned(
        f"FROM {repository.text}: a commit is needed, as {at} changes; now it is {commit[:12]}",
        f"Write this:  FROM {repository.at(commit)}",
        repository.at(commit),
    )
