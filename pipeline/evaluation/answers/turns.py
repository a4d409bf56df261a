"""The turns of held-out rows that a model is asked to say, each behind what the row says before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.common.thoughts import parted, spoken
from pipeline.common.values import Conversation
from pipeline.stages.score import named


@dataclass(frozen=True)
class Turn:
    """An assistant's turn of a row, and what it answers."""

    row: str
    turn: int
    messages: Conversation
    """All turns before it as the row has them, without thoughts and without the served SYSTEM."""
    reference: str

    @property
    def question(self) -> str:
        """The last user's turn."""
        return self.messages[-1]["content"]

    @property
    def history(self) -> tuple[str, ...]:
        """What was said before that."""
        return tuple(turn["content"] for turn in self.messages[:-1])


def turns(rows: Iterable[Mapping[str, Any]], system: str) -> Iterator[Turn]:
    """Every assistant's turn that rows teach; those of context are no references. Equal rows once.

    Args:
        rows: of a `Dataset`.
        system: the SYSTEM that Ollama adds itself.
    """
    seen: set[str] = set()
    for row in rows:
        talk: Conversation = row["messages"]
        name = named(row)
        if name in seen:
            continue
        seen.add(name)
        first = 1 if talk[0] == {"role": "system", "content": system} else 0
        for place, turn in enumerate(talk):
            asked = place > first and talk[place - 1]["role"] == "user"
            if turn["role"] == "assistant" and asked and place not in row.get("context", ()):
                before = spoken(talk[first:place])
                yield Turn(name, place, before, parted(turn["content"])[1])
