"""95 % intervals that hold for few rows.

A percentile bootstrap covers 84 to 93 % of what it promises below 40 rows; Student's t over rows
95 %, and for shares of yes and no the intervals below (DECISIONS.md, "Evaluation").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95
POWER = 7.85  # (1.96 + 0.84)², for 80 % at 5 % on both sides


@dataclass(frozen=True)
class Interval:
    """An estimate, and between what the truth lies in 95 of 100 cases."""

    value: float
    low: float
    high: float

    @property
    def above(self) -> bool:
        """Shown to be more than nothing."""
        return self.low > 0

    @property
    def below(self) -> bool:
        """Shown to be less than nothing."""
        return self.high < 0


def mean(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean of independent values (paired differences by row), by Student's t.

    Args:
        level: of 0.9, each end alone is a bound that holds in 95 of 100 cases.

    Raises:
        ValueError: fewer than two values.
    """
    from scipy.special import stdtrit

    count = len(values)
    if count < 2:
        raise ValueError("an interval needs two values")
    middle = math.fsum(values) / count
    spread = float(stdtrit(count - 1, 0.5 + level / 2)) * deviation(values) / math.sqrt(count)
    return Interval(middle, middle - spread, middle + spread)


def deviation(values: Sequence[float]) -> float:
    """Standard deviation of a sample."""
    middle = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - middle) ** 2 for v in values) / (len(values) - 1))


def paired_shares(one: Sequence[bool], other: Sequence[bool]) -> Interval:
    """How much larger the share of `one` is than that of `other` on the same rows.

    Bonett and Price (2012): each side gets one more row of each kind of disagreement. With five
    rows of which four are judged otherwise it covers 93 %; in all other cases tried, 94 and more.

    Raises:
        ValueError: not as many values on both sides, or none.
    """
    count = len(one)
    if count != len(other) or not count:
        raise ValueError("as many values on both sides")
    gained = sum(a and not b for a, b in zip(one, other, strict=True))
    lost = sum(b and not a for a, b in zip(one, other, strict=True))
    p, q = (gained + 1) / (count + 2), (lost + 1) / (count + 2)
    difference = p - q
    spread = _normal() * math.sqrt((p + q - difference**2) / (count + 2))
    low, high = difference - spread, difference + spread
    return Interval((gained - lost) / count, max(-1.0, low), min(1.0, high))


def share(count: int, total: int) -> Interval:
    """A share of yes among independent values: Wilson (1927).

    Averaged over shares it covers 95 %; for one that is near 0 or 1, less: `at_most` says there how
    large it may be.

    Raises:
        ValueError: none, or more than all.
    """
    if not 0 <= count <= total or not total:
        raise ValueError("a share is of something")
    value, z2 = count / total, _normal() ** 2
    middle = (value + z2 / (2 * total)) / (1 + z2 / total)
    spread = math.sqrt(z2 * (value * (1 - value) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    return Interval(value, max(0.0, middle - spread), min(1.0, middle + spread))


def at_most(total: int) -> float:
    """How large a share may be of which none was seen in so many values, in 95 of 100 cases.

    Clopper and Pearson (1934), one-sided.

    Raises:
        ValueError: none.
    """
    if total < 1:
        raise ValueError("a share is of something")
    return float(1 - (1 - LEVEL) ** (1 / total))


def rows_needed(deviation: float, difference: float) -> int:
    """About how many rows show a difference, in 80 of 100 cases."""
    return math.ceil(POWER * (deviation / difference) ** 2) + 2


def _normal() -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + LEVEL / 2))
