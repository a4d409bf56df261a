"""Which rows are trained, which choose the checkpoint, which are kept for the proof.

By a hash of the user turns: adding rows never moves an old one, and another answer to the same
question stays in its part. A question that very many rows ask would take them all into one part:
its rows are split by a hash of the whole conversation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipeline.common.values import Conversation, digest_of
from pipeline.stages.settings import WITHOUT_VALIDATION

WITHOUT_TEST = 10  # rows; below, all of them are trained
PARTS = ("train", "validation", "test")
MOST = 0.1  # share of the rows that may move together: as much as a part is meant to hold
FEW = 4  # rows that may always


class Split:
    """The parts of one file's rows."""

    def __init__(self, rows: Iterable[Conversation]) -> None:
        questions: Counter[str] = Counter()
        conversations: Counter[str] = Counter()
        for messages in rows:
            questions[_question(messages)] += 1
            conversations[_conversation(messages)] += 1
        self.rows = questions.total()
        most = max(FEW, MOST * self.rows)
        self.common = frozenset(key for key, count in questions.items() if count > most)
        """Questions that so many rows ask that they are split."""
        self._copies = frozenset(key for key, count in conversations.items() if count > most)

    def part(self, messages: Conversation) -> str:
        """train, validation or test.

        A tenth is for the proof and later evaluation, a tenth chooses the checkpoint. Files below
        40 rows have no validation part, below 10 no test part either. Copies of one conversation
        that cannot be split are trained.
        """
        key = _question(messages)
        if key in self.common:
            key = _conversation(messages)
            if key in self._copies:
                return "train"
        at = int(key[:12], 16) / 16**12
        if at < 0.1 and self.rows >= WITHOUT_TEST:
            return "test"
        if 0.1 <= at < 0.2 and self.rows >= WITHOUT_VALIDATION:
            return "validation"
        return "train"


def _question(messages: Conversation) -> str:
    asked: list[Any] = [message["content"] for message in messages if message["role"] == "user"]
    return digest_of(asked)


def _conversation(messages: Conversation) -> str:
    return digest_of(messages)
