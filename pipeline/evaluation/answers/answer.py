"""One answer of a model to one turn of a held-out row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a model said where a row has an assistant's turn."""

    row: str
    """The beginning of the conversation's digest, as in `Scores`."""
    turn: int
    """The place of the assistant's turn in the row."""
    question: str
    """The user's turn before it."""
    history: tuple[str, ...]
    """The texts of all turns before that, a system turn's too."""
    reference: str
    """What the row answers."""
    model: str
    """Its name, for people."""
    text: str
    """Without thoughts."""
    reason: str
    """Why it ended: `stop` by itself, `length` at the limit."""
    tokens: int

    @property
    def ends(self) -> bool:
        """It ended by itself."""
        return self.reason == "stop"

    @property
    def empty(self) -> bool:
        """It says nothing."""
        return not self.text.strip()
