"""The user's data file as a value: where it lies, and the digest of its bytes."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.common.digests import file_digest
from pipeline.common.errors import BadInput
from pipeline.intake.conversations import check_file


class Source(BaseModel):
    """A data file that is there; whether its rows are good is seen when they are taken in."""

    model_config = ConfigDict(frozen=True)
    path: Path
    digest: str
    """sha256 of its bytes."""
    given: str
    """The path as the user wrote it: errors call it so."""


def locate(path: Path) -> Source:
    """The file as a value.

    Raises:
        BadInput: there is no such file, or it cannot be read.
    """
    check_file(path)
    try:
        digest = file_digest(path)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}", "Check the file's permissions.") from error
    return Source(path=path.absolute(), digest=digest, given=str(path))
