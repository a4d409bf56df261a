"""How far a long work is, and who is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Progress:
    """How far a stage is: `done` of `total` (same unit), and a few words."""

    done: float
    total: float
    note: str = ""


class Shown(Protocol):
    """Who is told how it goes, by stage."""

    def say(self, stage: str, line: str) -> None:
        """A sentence."""

    def start(self, stage: str) -> None:
        """It begins."""

    def report(self, stage: str, progress: Progress) -> None:
        """How far it is."""

    def done(self, stage: str, words: str) -> None:
        """It has ended."""
