"""How far a long work is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a stage is: `done` of `total` (same unit), and a few words."""

    done: float
    total: float
    note: str = ""
