"""In which order rivals are told: the base, the base with examples, versions, other types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pipeline.evaluation.compare import Comparison

ORDER = ("base", "version", "type")


def kind(rival: str) -> Literal["base", "version", "type"]:
    """What a rival is, by its name (`rivals.evaluate` gives it)."""
    if rival.startswith("the base"):
        return "base"
    return "type" if " as " in rival else "version"


def is_base(rival: str) -> bool:
    """The base as it came."""
    return rival == "the base"


def in_order(found: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """As they are told."""
    return tuple(sorted(found, key=lambda one: ORDER.index(kind(one.rival))))
