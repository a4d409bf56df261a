"""Take the user's file in: check every row, write it canonically, keep where it comes from.

Rows are written as they come, then copied in the order of their digests. Then it is seen which of
them are nearly the same, and stay together when they are split (preparing/groups.py). Memory holds
some hundred bytes of each row, never its text.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pipeline.common.errors import BadInput
from pipeline.common.progress import Progress
from pipeline.common.thoughts import parted
from pipeline.common.values import BLOCK, Conversation, canonical, digest_of, digest_of_file
from pipeline.intake.conversations import Row, read
from pipeline.intake.source import Source
from pipeline.made.conversations import GROUPS, ROW, Conversations, Statistics
from pipeline.made.stage import Stage, Where
from pipeline.stages.preparing.groups import of_file
from pipeline.stages.settings import Intake

STAGE = Stage(
    "intake",
    version=2,
    settings=Intake,
    inputs={"source": Source},
    makes=Conversations,
    expected=lambda settings, inputs, before: inputs["source"].path.stat().st_size / 1.5e6,
    at_once=True,
)
READING = 4  # times as long as reading a row takes all that is done with it


def run(out: Path, settings: Intake, source: Source, *, where: Where) -> Conversations:
    """Check the rows and keep those that learn.

    Raises:
        BadInput: the file, or its only wrong line.
        BadRows: all of its wrong lines.
    """
    seen = Seen()
    beside = out / "as-they-come"
    size = source.path.stat().st_size
    with beside.open("wb") as file:
        places = []
        for row in read(source.path, source.given):
            if not row.learns:
                seen.unasked.append(row.line)
                continue
            places.append(_write(file, row))
            seen.add(row)
            if len(places) % 1000 == 0:
                where.report(Progress(min(file.tell(), size), READING * size))
    if digest_of_file(source.path) != source.digest:
        raise BadInput(f"{source.given} changed while it was read", "Run the same command again.")
    places.sort(key=lambda place: place.digest)
    _copy(beside, out, places)
    beside.unlink()
    found = seen.statistics()
    return Conversations(
        path=out,
        digest=_digest(place.digest for place in places),
        file=source.given,
        statistics=found,
        crowded=_grouped(out, found, where),
    )


def _grouped(out: Path, known: Statistics, where: Where) -> int:
    """Write which rows stay together; how many are in groups that are too large for it."""
    import numpy as np

    def done(rows: int) -> None:
        where.report(Progress(known.rows + rows * (READING - 1), known.rows * READING))

    keys, crowded = of_file(out / "conversations.jsonl", known.characters, done)
    np.save(out / GROUPS, keys)
    return crowded


class Seen:
    """What is counted on the way."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._systems: set[str] = set()
        self._system = ""
        self.unasked: list[int] = []
        """Lines of rows that are left out."""

    def add(self, row: Row) -> None:
        """Count a row that learns."""
        messages = row.messages
        self._count["rows"] += 1
        self._count["answers"] += sum(turn["role"] == "assistant" for turn in messages)
        self._count["characters"] += sum(len(turn["content"]) for turn in messages)
        self._count["context"] += len(row.context)
        self._count["thoughts"] += sum(
            bool(parted(turn["content"])[0])
            for index, turn in enumerate(messages)
            if turn["role"] == "assistant" and index not in row.context
        )
        self._count["open_ends"] += messages[-1]["role"] == "user"
        if messages[0]["role"] == "system":
            self._system = messages[0]["content"]
            self._systems.add(digest_of(self._system)[:ROW])
        else:
            self._count["without_system"] += 1

    def statistics(self) -> Statistics:
        """Of all rows so far."""
        one = len(self._systems) == 1 and not self._count["without_system"]
        names = (
            "rows",
            "answers",
            "characters",
            "context",
            "open_ends",
            "without_system",
            "thoughts",
        )
        return Statistics(
            systems=len(self._systems),
            shared_system=self._system if one else "",
            unasked=tuple(self.unasked),
            **{name: self._count[name] for name in names},
        )


class _Place(NamedTuple):
    """Where a row's two lines lie among those that were written as they came."""

    digest: bytes
    start: int
    middle: int
    end: int


def _write(file: BinaryIO, row: Row) -> _Place:
    body = canonical(row.messages).encode()
    line = b'{"messages":%s}' % body
    if row.context:
        line = body = canonical(row.value()).encode()
    digest = hashlib.sha256(body).digest()
    origin: dict[str, Any] = {"line": row.line, "row": _normal(row, digest.hex())[:ROW]}
    if row.fields:
        origin["fields"] = row.fields
    if row.turns:
        origin["turns"] = row.turns
    start = file.tell()
    middle = start + file.write(line + b"\n")
    end = middle + file.write(_JSON(origin).encode() + b"\n")
    return _Place(digest, start, middle, end)


_JSON = json.JSONEncoder().encode  # in any order, with NaN where a field has it: it decides nothing


def _normal(row: Row, digest: str) -> str:
    """The row's digest in NFC: some tokenizers write it so, and it is to be found then, too."""
    if all(unicodedata.is_normalized("NFC", turn["content"]) for turn in row.messages):
        return digest
    messages: Conversation = [
        {"role": turn["role"], "content": unicodedata.normalize("NFC", turn["content"])}
        for turn in row.messages
    ]
    return digest_of(Row(row.line, messages, row.context).value())


def _copy(beside: Path, out: Path, places: list[_Place]) -> None:
    """The lines in the order of `places`, into the two files."""
    with (
        beside.open("rb", buffering=0) as file,  # mapped into memory, all of it would count as ours
        (out / "conversations.jsonl").open("wb", buffering=BLOCK) as rows,
        (out / "origins.jsonl").open("wb", buffering=BLOCK) as origins,
    ):
        for place in places:
            both = os.pread(file.fileno(), place.end - place.start, place.start)
            rows.write(both[: place.middle - place.start])
            origins.write(both[place.middle - place.start :])


def _digest(rows: Iterator[bytes]) -> str:
    """sha256 over the canonical JSON list of the rows' digests, in their order."""
    whole = hashlib.sha256(b"[")
    for number, row in enumerate(rows):
        whole.update(b'%s"%s"' % (b"," if number else b"", row.hex().encode()))
    whole.update(b"]")
    return whole.hexdigest()
