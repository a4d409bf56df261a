"""A data file as a value: its digest and what is known of it before it is tokenized."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.common.values import digest_of
from pipeline.intake.conversations import Row, read


class Statistics(BaseModel):
    """What is known of a data file before it is tokenized; all rows are those that learn."""

    model_config = ConfigDict(frozen=True)
    rows: int
    answers: int
    """Assistant turns."""
    characters: int
    """Characters of all turns, system turns included."""
    without_system: int
    """Rows that get the Modelfile's SYSTEM."""
    systems: int = 0
    """Different system messages in the rows."""
    shared_system: str = ""
    """The system message that every row has; '' where they differ or a row has none."""
    context: int = 0
    """Assistant turns that are not learned."""
    open_ends: int = 0
    """Rows that end in a user's turn, which nobody answered."""
    unasked: tuple[int, ...] = ()
    """Lines that are left out: every assistant turn comes before any user's."""


class Source(BaseModel):
    """A checked data file: where it lies and what is in it."""

    model_config = ConfigDict(frozen=True)
    path: Path
    digest: str
    """sha256 over the conversations; white space and order of the file do not count."""
    statistics: Statistics


def read_source(path: Path) -> tuple[Source, list[Row]]:
    """The checked file as a value, with the rows that learn.

    Raises:
        BadInput: as `read`.
    """
    every = read(path)
    rows = [row for row in every if row.learns]
    turns = [message for row in rows for message in row.messages]
    heads = [row.messages[0] for row in rows]
    systems = Counter(head["content"] for head in heads if head["role"] == "system")
    without = len(rows) - systems.total()
    statistics = Statistics(
        rows=len(rows),
        answers=sum(turn["role"] == "assistant" for turn in turns),
        characters=sum(len(turn["content"]) for turn in turns),
        without_system=without,
        systems=len(systems),
        shared_system=next(iter(systems)) if len(systems) == 1 and not without else "",
        context=sum(len(row.context) for row in rows),
        open_ends=sum(row.messages[-1]["role"] == "user" for row in rows),
        unasked=tuple(row.line for row in every if not row.learns),
    )
    digest = digest_of(sorted(digest_of(row.value()) for row in rows))
    return Source(path=path.absolute(), digest=digest, statistics=statistics), rows
