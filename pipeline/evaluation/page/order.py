"""In which order rivals are told: the base, the base with examples, versions, other types."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.evaluation.compare import Comparison, Kind

ORDER: tuple[Kind, ...] = ("base", "examples", "version", "type", "specialist")


def in_order(found: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """As they are told."""
    return tuple(sorted(found, key=lambda one: ORDER.index(one.kind)))
