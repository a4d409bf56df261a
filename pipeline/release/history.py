"""What was registered: the versions of each specialist, in `<home>/releases`.

    NAME.json             which versions there are, and which one NAME was made to be last
    NAME.versions/v0003.json   the record of a version, which never changes
    NAME.Modelfile        the served one as text, FROM the GGUF in the store
    NAME.promotion        journal of a promotion that is going on, or broke off
    NAME.lock             held by the run that changes any of these

NAME.json lies where programs of before had their only record. They read that its format is newer,
and touch nothing. A version counts once NAME.json names it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from pipeline.common import places, private, records
from pipeline.common.errors import BadInput, Unreadable
from pipeline.common.names import check_name
from pipeline.common.values import write_json
from pipeline.release import older
from pipeline.release.version import Version

FORMAT = 2  # of NAME.json; 1 is older.Record


class Head(BaseModel):
    """What changes: NAME.json."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    name: str
    current: int
    """The version that NAME:latest was made to be last; 0 if none was, for each was stopped."""
    versions: list[int]
    """All that ever were, in order: no number is used twice."""
    removed: list[int] = []
    stages: dict[int, list[str]] = {}
    """Where other directories hold the same by now than a version's record names."""
    unfinished: bool = False
    """True while Ollama's tags are as a program of before there were versions left them."""


KINDS: dict[int, type[BaseModel]] = {older.FORMAT: older.Record, FORMAT: Head}
"""What NAME.json is, by its format."""


@dataclass(frozen=True)
class History:
    """The versions of a specialist."""

    head: Head
    versions: tuple[Version, ...]
    """All that ever were, in order."""

    @property
    def name(self) -> str:
        """As it was last written."""
        return self.head.name

    @property
    def there(self) -> list[Version]:
        """Those that were not removed."""
        return [each for each in self.versions if each.version not in self.head.removed]

    @property
    def current(self) -> Version:
        """The one that NAME:latest was made to be last; the newest, if none was."""
        last = (each for each in self.versions if each.version == self.head.current)
        return next(last, self.versions[-1])

    def stopped(self, wanted: str) -> Version | None:
        """The newest version that is made of exactly this, if the verdict on it was stop."""
        equal = [each for each in self.there if each.wanted == wanted]
        return equal[-1] if equal and equal[-1].stopped else None

    @property
    def stages(self) -> set[str]:
        """The directories of all that were not removed."""
        return {stage for each in self.there for stage in each.stages}

    def served(self, manifest: str | None) -> Version | None:
        """The version with this digest: the current one rather than an equal one, or the newest."""
        equal = [each for each in self.there if each.manifest == manifest]
        current = (each for each in equal if each.version == self.head.current)
        return next(current, equal[-1] if equal else None)


def folder() -> Path:
    """Where the records lie."""
    return places.home() / "releases"


def file(name: str, suffix: str = "json") -> Path:
    """What there is of a specialist by its suffix; Ollama's names know no capitals."""
    return folder() / f"{name.lower()}.{suffix}"


def version_file(name: str, number: int) -> Path:
    """The record of a version."""
    return file(name, "versions") / f"v{number:04}.json"


def history(name: str) -> History | None:
    """The versions of a specialist, None if it was never registered.

    Releases of before there were versions are shown as they will be taken over.

    Raises:
        Unreadable: a record is damaged or of another format; what it names stays.
    """
    out = f"Or give it up, and nothing else: specialist gc --forget {name}"
    found = records.read_any(file(name), KINDS, out)
    if isinstance(found, older.Record):
        return of_before(found)
    return _read(found, out) if isinstance(found, Head) else None


def of_before(record: older.Record, first: int = 1) -> History:
    """The history that a record of before there were versions becomes."""
    some = older.versions(record, first)
    numbers = [each.version for each in some]
    head = Head(name=record.name, current=numbers[-1], versions=numbers, unfinished=True)
    return History(head, tuple(some))


def _read(head: Head, out: str) -> History:
    found = []
    for number in head.versions:
        path = version_file(head.name, number)
        if (version := records.read(path, Version, out)) is None:
            raise Unreadable(f"{path} is missing", f"Put the file back from a backup. {out}")
        where = head.stages.get(number)
        found.append(version if where is None else version.model_copy(update={"stages": where}))
    if head.current not in (0, *head.versions) or not found:
        raise Unreadable(f"{file(head.name)} is damaged: there is no v{head.current}", out)
    return History(head, tuple(found))


def histories() -> tuple[list[History], dict[str, Unreadable]]:
    """Every registered specialist; and by name the errors of those that cannot be read."""
    found: list[History] = []
    faults: dict[str, Unreadable] = {}
    for path in sorted(folder().glob("*.json")):
        try:
            if one := history(path.stem):
                found.append(one)
        except Unreadable as error:
            faults[path.stem] = error
    return found, faults


def write_version(version: Version) -> None:
    """Keep the record of a version; it counts once the head names it."""
    path = version_file(version.name, version.version)
    private.folder(path.parent)
    write_json(path, version.model_dump(mode="json"))


def write_head(head: Head) -> None:
    """Say which versions there are."""
    write_json(file(head.name), head.model_dump(mode="json"))


def update(known: History, **changes: object) -> History:
    """Change the head, on the disk too if it differs."""
    head = known.head.model_copy(update=changes)
    if head != known.head:
        write_head(head)
    return replace(known, head=head)


def files(name: str) -> list[Path]:
    """What there is of a specialist: its records, its Modelfile, and the journal of a promotion.

    Raises:
        BadInput: there is no such specialist.
    """
    check_name(name)
    suffixes = ("json", "versions", "Modelfile", "promotion")
    known = [path for path in (file(name, suffix) for suffix in suffixes) if path.exists()]
    if not known:
        raise BadInput(f"there is no specialist {name}", "See them with: specialist list")
    return known


def forget(name: str) -> None:
    """Remove all that `files` names, readable or not. Ollama keeps what it has.

    Raises:
        BadInput: there is no such specialist, or it is being registered.
    """
    known = files(name)
    try:
        with FileLock(file(name, "lock"), timeout=0, mode=0o600):
            for path in known:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except Timeout:
        raise BadInput(f"{name} is being registered", "Let that run end first.") from None


def known(name: str) -> History:
    """The versions of a specialist that there is.

    Raises:
        BadInput: there is no such specialist.
        Unreadable: as for `history`.
    """
    check_name(name)
    if (found := history(name)) is None:
        raise BadInput(f"there is no specialist {name}", "See them with: specialist list")
    return found
