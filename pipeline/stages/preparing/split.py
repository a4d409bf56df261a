"""Which rows are trained, which choose the checkpoint, which are kept for the proof.

By a hash of the user turns: adding rows never moves an old one, and another answer to the same
question stays in its part. A question that very many rows ask would take them all into one part:
its rows are split by a hash of the whole conversation.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pipeline.common.values import Conversation, digest_of
from pipeline.made.conversations import ROW
from pipeline.stages.settings import WITHOUT_VALIDATION

WITHOUT_TEST = 10  # rows; below, all of them are trained
PARTS = ("train", "validation", "test")
MOST = 0.1  # share of the rows that may move together: as much as a part is meant to hold
FEW = 4  # rows that may always


class Crowds:
    """Counts questions and conversations, to find those that very many rows share."""

    def __init__(self) -> None:
        self.rows = 0
        self._questions: dict[int, int] = {}  # by the beginning of a digest: a row takes 100 bytes
        self._conversations: dict[int, int] = {}

    def add(self, messages: Conversation, digest: str = "") -> None:
        """Count a row.

        Args:
            digest: of the messages, where it is known.
        """
        self.rows += 1
        for counts, key in (
            (self._questions, question(messages)),
            (self._conversations, digest[:ROW] or conversation(messages)),
        ):
            number = int(key, 16)
            counts[number] = counts.get(number, 0) + 1

    @property
    def common(self) -> tuple[str, ...]:
        """Questions that so many rows ask that they are split."""
        return self._many(self._questions)

    @property
    def copies(self) -> tuple[str, ...]:
        """Conversations that so many rows are."""
        return self._many(self._conversations)

    def _many(self, counts: dict[int, int]) -> tuple[str, ...]:
        most = max(FEW, MOST * self.rows)
        return tuple(sorted(f"{key:0{ROW}x}" for key, count in counts.items() if count > most))


class Split:
    """The parts of one file's rows."""

    def __init__(self, rows: int, common: Collection[str], copies: Collection[str]) -> None:
        self.rows = rows
        self.common = frozenset(common)
        self._copies = frozenset(copies)

    def part(self, messages: Conversation) -> str:
        """train, validation or test.

        A tenth is for the proof and later evaluation, a tenth chooses the checkpoint. Files below
        40 rows have no validation part, below 10 no test part either. Copies of one conversation
        that cannot be split are trained.
        """
        key = question(messages)
        if key in self.common:
            key = conversation(messages)
            if key in self._copies:
                return "train"
        at = int(key[:12], 16) / 16**12
        if at < 0.1 and self.rows >= WITHOUT_TEST:
            return "test"
        if 0.1 <= at < 0.2 and self.rows >= WITHOUT_VALIDATION:
            return "validation"
        return "train"


def question(messages: Conversation) -> str:
    """What a row asks: the beginning of the digest of its user turns."""
    asked: list[Any] = [message["content"] for message in messages if message["role"] == "user"]
    return digest_of(asked)[:ROW]


def conversation(messages: Conversation) -> str:
    """The beginning of the digest of all its turns."""
    return digest_of(messages)[:ROW]
