"""Records on disk: JSON objects with a format number, read whole or refused by name.

A record that cannot be read is never "no record": what it names would be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from pipeline.common.errors import OtherFormat, Unreadable
from pipeline.common.values import read_json

FORMAT = 1
"""Raised when a record gains what an older program would not understand. Records that were written
before there were numbers have none; they are read as this one."""

R = TypeVar("R", bound=BaseModel)


def read(path: Path, kind: type[R], way_out: str = "") -> R | None:
    """The record in a file; None if there is no file.

    Args:
        way_out: what else the user can do about a record that cannot be read.

    Raises:
        Unreadable: it is damaged; the file stays as it is.
        OtherFormat: another version of this program wrote it.
    """
    return cast(R | None, read_any(path, {FORMAT: kind}, way_out))


def read_any(
    path: Path, kinds: Mapping[int, type[BaseModel]], way_out: str = ""
) -> BaseModel | None:
    """The record in a file of one of several formats; None if there is no file.

    Args:
        kinds: what a record is, by its format.

    Raises:
        Unreadable, OtherFormat: as for `read`.
    """
    value = _object(path, way_out)
    if value is None:
        return None
    number = value.get("format", FORMAT)
    if type(number) is not int or number not in kinds:
        known = " and ".join(map(str, sorted(kinds)))
        raise OtherFormat(
            f"{path} has the format {str(number)[:20]}; this specialist knows {known}",
            f"Use the specialist that wrote it, or a newer one. {way_out}".strip(),
        )
    try:
        return kinds[number].model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise _damaged(path, f"{where}: {first['msg']}", way_out) from error


def _object(path: Path, way_out: str) -> dict[str, Any] | None:
    try:
        value = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # a folder, a link to itself, not ours to read
        raise _damaged(path, error.strerror or type(error).__name__, way_out) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error) or type(error).__name__, way_out) from error
    if not isinstance(value, dict):
        raise _damaged(path, "it is not a JSON object", way_out)
    return value


def _damaged(path: Path, why: str, way_out: str) -> Unreadable:
    return Unreadable(
        f"{path} is damaged: {' '.join(why.split())[:160]}",
        f"Put the file back from a backup. {way_out}".strip(),
    )
