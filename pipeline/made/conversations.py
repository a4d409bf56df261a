"""The user's rows as they were taken in: canonical, in the store, each with where it comes from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from pipeline.common.values import digest_of
from pipeline.made.artifacts import Artifact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Statistics(BaseModel):
    """What is known of the rows before they are tokenized; all rows are those that learn."""

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
    thoughts: int = 0
    """Assistant turns that begin with thoughts."""
    unasked: tuple[int, ...] = ()
    """Lines that are left out: every assistant turn comes before any user's."""


class Conversations(Artifact):
    """The rows that learn, in the order of their digests.

    Files: conversations.jsonl, a line of canonical JSON {"messages": [{"role", "content"}]} each,
    with "context": [int] for the assistant turns that are not learned; origins.jsonl, as many
    lines {"line": int, "row": str, "fields": {…}, "turns": {"0": {…}}}: where the row stands in
    the user's file, the beginning of its digest, and the fields that mean nothing for training.

    The digest covers the rows alone: white space, the file's order and its other fields do not
    count, so equal rows on other lines are not trained again.
    """

    FILES = ("conversations.jsonl",)

    file: str
    """The user's file, as it was given."""
    statistics: Statistics
    crowded: int = 0
    """Rows of groups that are too large to stay together."""
    common: tuple[str, ...] = ()
    """In records of intake 1: questions that very many rows ask."""
    copies: tuple[str, ...] = ()
    """In records of intake 1: conversations that very many rows are."""

    def groups(self) -> NDArray[np.uint64]:
        """What groups.npy holds."""
        import numpy as np

        found: NDArray[np.uint64] = np.load(self.path / GROUPS)
        return found

    def each(self) -> Iterator[tuple[bytes, bytes]]:
        """The lines of both files side by side, without their ends."""
        with (
            (self.path / "conversations.jsonl").open("rb") as rows,
            (self.path / "origins.jsonl").open("rb") as origins,
        ):
            for row, origin in zip(rows, origins, strict=True):
                yield row.rstrip(b"\n"), origin.rstrip(b"\n")

    def place(self, origin: bytes) -> str:
        """`rows.jsonl:12` of a line of origins.jsonl."""
        return f"{self.file}:{line_of(origin)}"

    def places(self, rows: Collection[str]) -> dict[str, str]:
        """Where rows stand, by their digests; what is not here is left out."""
        wanted = {row[:ROW]: row for row in rows}
        found: dict[str, str] = {}
        with (self.path / "origins.jsonl").open("rb") as origins:
            for origin in origins:
                if len(found) == len(wanted):
                    break
                value: dict[str, Any] = json.loads(origin)
                if (row := wanted.get(value["row"])) and row not in found:
                    found[row] = f"{self.file}:{value['line']}"
        return found


def digest_of_row(row: Mapping[str, Any]) -> str:
    """The digest by which the origin of a row of the data set is known."""
    told = {key: row[key] for key in ("context", "messages") if key in row}
    return digest_of(told if "context" in told else told["messages"])


_LINE = b'{"line": '
GROUPS = "groups.npy"
ROW = 16  # hex digits by which origins.jsonl knows a row


def line_of(origin: bytes) -> int:
    """The line number that a line of origins.jsonl tells: it begins so."""
    return int(origin[len(_LINE) : origin.index(b",")])
