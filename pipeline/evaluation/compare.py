"""A specialist against a rival on the same rows, each row counted once.

A row's loss is the mean of its answers' tokens, their ends included, in nats. Rows are independent,
tokens are not: so intervals are over rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.evaluation import intervals
from pipeline.evaluation.intervals import Interval

PAIRS = (("body", "words"), ("end", "ends"))  # sums and counts in the lines of `Scores`
FEWEST = 5  # rows; below, an interval says nothing
ONE_SIDED = 0.9  # the level of an interval whose either end holds in 95 of 100 cases
CLEARLY = 0.4  # of the whole difference: a single row that makes so much of it is named


Kind = Literal["specialist", "type", "version", "base", "examples"]
"""What is measured: the specialist, another type of its weights, another version of it, its base,
the base with examples."""


@dataclass(frozen=True)
class Measured:
    """A model's losses by row, in nats a token."""

    name: str
    rows: Mapping[str, float]
    words: float
    """Loss of the answers' own tokens, over all rows."""
    ends: float
    """Loss of the tokens that end its turns."""
    kind: Kind = "specialist"

    @property
    def loss(self) -> float:
        """Mean over rows."""
        return math.fsum(self.rows.values()) / len(self.rows)


def measured(name: str, rows: Sequence[Mapping[str, Any]], kind: Kind = "specialist") -> Measured:
    """Of the lines of `Scores`. Rows that are equal count once."""
    by_row = {
        str(row["row"]): (row["body"] + row["end"]) / (row["words"] + row["ends"]) for row in rows
    }
    sums = {key: math.fsum(row[key] for row in rows) for key in ("body", "words", "end", "ends")}
    words, ends = (sums[of] / max(1, sums[count]) for of, count in PAIRS)
    return Measured(name, by_row, words, ends, kind)


@dataclass(frozen=True)
class Comparison:
    """How much less a specialist loses than its rival, on the rows of both."""

    rival: str
    kind: Kind
    rows: int
    better: int
    """Rows on which the specialist loses less."""
    less: float
    """Nats a token, mean over rows."""
    interval: Interval | None
    """None of fewer rows than say anything."""
    surely: Interval | None
    """Narrower: either end alone holds in 95 of 100 cases."""
    spread: float
    """Standard deviation of a row's difference."""
    outlier: float
    """The share of the difference that one row makes."""

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `open`: not shown either way."""
        if self.interval is None:
            return "open"
        return "better" if self.interval.above else "worse" if self.interval.below else "open"


def compare(specialist: Measured, rival: Measured) -> Comparison:
    """On the rows that both have.

    Raises:
        ValueError: there are none.
    """
    shared = sorted(specialist.rows.keys() & rival.rows.keys())
    if not shared:
        raise ValueError("no row is of both")
    differences = [rival.rows[row] - specialist.rows[row] for row in shared]
    total = math.fsum(differences)
    few = len(shared) < FEWEST
    return Comparison(
        rival.name,
        rival.kind,
        rows=len(shared),
        better=sum(d > 0 for d in differences),
        less=total / len(shared),
        interval=None if few else intervals.mean(differences),
        surely=None if few else intervals.mean(differences, ONE_SIDED),
        spread=0.0 if len(shared) < 2 else intervals.deviation(differences),
        outlier=max(d / total for d in differences) if total else 0.0,
    )
