"""A data file as a value: its digest and what is known of it before it is tokenized."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.conversations import Row, read
from pipeline.values import digest_of


class Statistics(BaseModel):
    """What is known of a data file before it is tokenized."""

    model_config = ConfigDict(frozen=True)
    rows: int
    answers: int
    """Assistant turns."""
    characters: int
    """Characters of all turns, system turns included."""
    without_system: int
    """Rows that get the Modelfile's SYSTEM."""


class Source(BaseModel):
    """A checked data file: where it lies and what is in it."""

    model_config = ConfigDict(frozen=True)
    path: Path
    digest: str
    """sha256 over the conversations; white space and order of the file do not count."""
    statistics: Statistics


def read_source(path: Path) -> tuple[Source, list[Row]]:
    """The checked file as a value, with its rows.

    Raises:
        BadInput: as `read`.
    """
    rows = read(path)
    turns = [message for row in rows for message in row.messages]
    statistics = Statistics(
        rows=len(rows),
        answers=sum(turn["role"] == "assistant" for turn in turns),
        characters=sum(len(turn["content"]) for turn in turns),
        without_system=sum(row.messages[0]["role"] != "system" for row in rows),
    )
    digest = digest_of(sorted(digest_of(row.messages) for row in rows))
    return Source(path=path.absolute(), digest=digest, statistics=statistics), rows
