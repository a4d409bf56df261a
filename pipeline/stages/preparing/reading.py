"""Read rows out of the store a batch at a time, and have the next batch rendered meanwhile."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.bases.chat_template import render_all, trained_messages
from pipeline.common.values import Conversation, canonical
from pipeline.made.artifacts import Base
from pipeline.made.conversations import Conversations, line_of
from pipeline.stages.preparing.control import spelled
from pipeline.stages.preparing.segmenter import beginnings
from pipeline.tools.jinja import Beginnings, Texts

ROWS = 256  # of a batch, at most
BYTES = 1 << 20  # of a batch, about


@dataclass(frozen=True)
class Row:
    """One conversation as it is trained on a base."""

    raw: bytes
    """Its canonical JSON, {"messages"} and, if there is, {"context"}."""
    messages: Conversation
    trained: Conversation
    """The same with SYSTEM in front where it applies."""
    answers: list[int]
    """Indices in it of the turns that are trained."""
    line: int
    """Of the user's file."""
    changed: bool
    """True if it was written in NFC."""
    spelled: list[str]
    """Control tokens that its texts spell."""


_DECODE = json.JSONDecoder().decode  # json.loads looks for the encoding of bytes first
Batch = list[Row]
Waiting = tuple[Batch, Future[list[Texts]]]


def batches(base: Base, data: Conversations, system: str) -> Iterator[Batch]:
    """All rows in their order."""
    batch: Batch = []
    size = 0
    for raw, origin in data.each():
        batch.append(_row(base, raw, line_of(origin), system))
        size += len(raw) * len(batch[-1].answers)
        if len(batch) == ROWS or size > BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def rendered(base: Base, every: Iterator[Batch]) -> Iterator[tuple[Batch, list[Texts]]]:
    """Each batch, with the texts of what each of its rows asks.

    The process that renders works on the next batch while the caller works on this one. It starts
    at once, while the caller opens its tokenizers.
    """
    template, pool = base.template, ThreadPoolExecutor(1)

    def texts(asked: list[list[Beginnings]]) -> list[Texts]:
        found = iter(render_all(base, template, [one for several in asked for one in several]))
        return [[text for _ in several for text in next(found)] for several in asked]

    def begin(batch: Batch) -> Waiting:
        asked = [beginnings(row.trained, row.answers) for row in batch]
        return batch, pool.submit(texts, asked)

    def each(
        waiting: Waiting,
    ) -> Iterator[tuple[Batch, list[Texts]]]:
        with pool:
            for batch in every:
                coming = begin(batch)
                yield waiting[0], waiting[1].result()
                waiting = coming
            yield waiting[0], waiting[1].result()

    return each(begin(next(every)))


def _row(base: Base, raw: bytes, line: int, system: str) -> Row:
    value = _DECODE(raw.decode())
    messages: Conversation = value["messages"]
    context = value.get("context", ())
    changed = base.nfc and not all(
        unicodedata.is_normalized("NFC", turn["content"]) for turn in messages
    )
    if changed:
        for turn in messages:
            turn["content"] = unicodedata.normalize("NFC", turn["content"])
        raw = canonical(value).encode()
    trained = trained_messages(messages, system)
    moved = len(trained) - len(messages)  # by the SYSTEM in front
    learned = [
        turn
        for turn, message in enumerate(trained)
        if message["role"] == "assistant" and turn - moved not in context
    ]
    found = spelled(base, "\n".join(turn["content"] for turn in messages))
    return Row(raw, messages, trained, learned, line, changed, found)
