"""A finished stage directory: what its record says, and whether all of it is still there.

record.json   {"format", "artifact", "key", "inputs", "files", "made"}, written last
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError

from pipeline.common import records
from pipeline.common.digests import file_digest
from pipeline.common.errors import OtherFormat, Unreadable
from pipeline.common.values import digest_of, write_json
from pipeline.made.artifacts import Artifact

A = TypeVar("A", bound=Artifact)
NAME = "record.json"


class Key(BaseModel):
    """What a stage's key was made of."""

    model_config = ConfigDict(frozen=True)
    stage: str
    version: int
    pinned: list[str] = []
    settings: dict[str, Any]
    inputs: list[str]
    """Digests, in the order of the stage's arguments."""


class Made(BaseModel):
    """Circumstances: no part of any key."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)
    when: str = ""
    """ISO 8601, UTC."""
    seconds: NonNegativeFloat = 0.0
    peak_memory: int = 0
    """Bytes."""
    device: str = ""
    threads: int = 0
    versions: dict[str, str] = {}


class StageRecord(BaseModel):
    """What is known of a finished stage directory."""

    model_config = ConfigDict(frozen=True)
    format: int = records.FORMAT
    artifact: dict[str, Any]
    """The artifact without its path."""
    key: Key
    inputs: dict[str, str] = {}
    """Digests of the inputs by name; empty in records of before there were names."""
    files: dict[str, int] = {}
    """Bytes of each file; empty in records of before they were noted."""
    made: Made = Made()

    def named(self, names: Collection[str]) -> StageRecord:
        """With names for its inputs, if it is of before they had some; later ones came behind."""
        if self.inputs or len(names) < len(self.key.inputs):
            return self
        return self.model_copy(update={"inputs": dict(zip(names, self.key.inputs, strict=False))})


def seal(folder: Path, record: StageRecord) -> None:
    """Write the record, whole: the folder is finished with it."""
    noted = record.model_copy(update={"files": _sizes(folder)})
    write_json(folder / NAME, noted.model_dump(mode="json"))


def read(folder: Path) -> StageRecord | None:
    """A directory's record; None if there is none, or it is damaged (the stage is made again).

    Raises:
        OtherFormat: another version of this program made it; it is not made again over that.
    """
    try:
        return records.read(folder / NAME, StageRecord)
    except OtherFormat:
        raise
    except Unreadable:
        return None


def load(kind: type[A], folder: Path) -> A | None:
    """The artifact in a finished directory; None if it is not all there.

    Raises:
        OtherFormat: as for `read`.
    """
    record = read(folder)
    try:
        made = record and kind.model_validate({**record.artifact, "path": folder})
    except ValidationError:
        return None
    return made if made and record and _all_there(made, record) else None


def _all_there(made: Artifact, record: StageRecord) -> bool:
    """True if no file was removed or cut short."""
    try:
        if record.files:
            return record.files.items() <= _sizes(made.path).items()
        names = {file.name for pattern in made.FILES for file in made.path.glob(pattern)}
        known = {name: file_digest(made.path / name) for name in sorted(names)}
        return digest_of(known) == made.digest  # sizes were not noted: read once, then remembered
    except OSError:
        return False


def _sizes(folder: Path) -> dict[str, int]:
    files = (file for file in folder.iterdir() if file.is_file() and file.name != NAME)
    return {file.name: file.stat().st_size for file in sorted(files)}
