"""What was downloaded, and where it lies.

<home>/hub/ORG--NAME--COMMIT/        whole: its download.json was written last, then one rename
<home>/hub/ORG--NAME--COMMIT.draft/  being downloaded, or left by a run that ended; the next goes on
<home>/hub/ORG--NAME--COMMIT.lock    held by the run that downloads; never removed
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from pipeline.bases.hub.repository import Repository
from pipeline.common import places, records
from pipeline.common.errors import Missing

RECORD = "download.json"


class Record(BaseModel):
    """What was downloaded."""

    format: int = records.FORMAT
    repository: str
    """`ORG/NAME`."""
    commit: str
    endpoint: str
    """The hub that gave it."""
    when: str
    """ISO 8601, UTC."""
    files: dict[str, str]
    """sha256 of each file."""


def home() -> Path:
    """Where all downloads lie."""
    return places.home() / "hub"


def folder(repository: Repository) -> Path:
    """Where one lies, or would lie."""
    return home() / f"{repository.owner}--{repository.name}--{repository.commit}"


def draft(repository: Repository) -> Path:
    """Where it grows."""
    final = folder(repository)
    return final.with_name(f"{final.name}.draft")


def record(repository: Repository) -> Record | None:
    """What is kept of a finished download; None if there is none.

    Raises:
        Unreadable: the record is damaged.
        Missing: it has gone.
    """
    where = folder(repository)
    way_out = f"Or remove {where}, and download it again with --allow-download."
    found = records.read(where / RECORD, Record, way_out)
    if found is None and where.exists():  # the name comes after the record
        raise damaged(where / RECORD)
    return found


def damaged(file: Path) -> Missing:
    """What to say of a file of a download that is not as it was, or gone."""
    return Missing(
        f"the download is damaged: {file}",
        f"Remove {file.parent}, then run again with --allow-download.",
    )


def downloads() -> dict[Path, int]:
    """Every download, finished or not, with its bytes."""
    found = sorted(path for path in home().glob("*--*--*") if path.is_dir())
    return {path: sum(f.lstat().st_size for f in path.glob("*")) for path in found}
