"""The intervals hold what they promise: simulated, with few rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.evaluation import intervals

TIMES = 4000


def covered(lows: np.ndarray, highs: np.ndarray, truth: float) -> float:
    return float(((lows <= truth) & (truth <= highs)).mean())


@pytest.mark.parametrize("count", [10, 17, 40])
@pytest.mark.parametrize("kind", ["normal", "heavy tails"])
def test_a_mean_lies_in_its_interval_as_often_as_promised(kind: str, count: int) -> None:
    random = np.random.default_rng(count)
    shape = (TIMES, count)
    drawn = random.normal(size=shape) if kind == "normal" else random.standard_t(3, shape)
    found = [intervals.mean(row.tolist()) for row in drawn + 0.3]
    lows, highs = (np.array([getattr(i, side) for i in found]) for side in ("low", "high"))
    assert covered(lows, highs, 0.3) >= 0.93


# Chances that only one model, only the other, and both are right.
CHANCES = [(0.1, 0.1, 0.7), (0.3, 0.05, 0.5), (0.02, 0.02, 0.9), (0.3, 0.3, 0.3), (0.0, 0.1, 0.8)]


@pytest.mark.parametrize("count", [5, 10, 17, 40])
@pytest.mark.parametrize("chances", CHANCES)
def test_a_difference_of_shares_lies_in_its_interval(chances, count: int) -> None:
    random = np.random.default_rng(7)
    one, other, both = chances
    drawn = random.choice(4, (TIMES, count), p=[one, other, both, 1 - sum(chances)])
    pairs = [((row == 0) | (row == 2), (row == 1) | (row == 2)) for row in drawn]
    found = [intervals.paired_shares(a.tolist(), b.tolist()) for a, b in pairs]
    lows, highs = (np.array([getattr(i, side) for i in found]) for side in ("low", "high"))
    assert covered(lows, highs, one - other) >= 0.94


@pytest.mark.parametrize("count", [10, 17, 40, 100])
@pytest.mark.parametrize("chance", [0.1, 0.3, 0.5, 0.8])
def test_a_share_lies_in_its_interval(chance: float, count: int) -> None:
    drawn = np.random.default_rng(3).binomial(count, chance, TIMES)
    found = [intervals.share(int(k), count) for k in drawn]
    lows, highs = (np.array([getattr(i, side) for i in found]) for side in ("low", "high"))
    assert covered(lows, highs, chance) >= 0.92  # binomials are coarse: Wilson's mean is 95 %


def test_a_share_covers_what_is_promised_on_average() -> None:
    random = np.random.default_rng(5)
    chances = random.uniform(0.02, 0.98, TIMES)
    found = [intervals.share(int(random.binomial(17, p)), 17) for p in chances]
    hits = [i.low <= p <= i.high for i, p in zip(found, chances, strict=True)]
    assert np.mean(hits) >= 0.945


@pytest.mark.parametrize("count", [5, 17, 100])
def test_what_was_never_seen_is_rarely_more_than_its_bound(count: int) -> None:
    bound = intervals.at_most(count)
    never = (np.random.default_rng(9).binomial(count, bound, 10 * TIMES) == 0).mean()
    assert never == pytest.approx(0.05, abs=0.006)  # a larger share would be seen more often


def test_known_shares() -> None:
    half = intervals.share(5, 10)
    assert (half.low, half.high) == (
        pytest.approx(0.2366, abs=1e-4),
        pytest.approx(0.7634, abs=1e-4),
    )
    none = intervals.share(0, 17)
    assert (none.low, none.high) == (0.0, pytest.approx(0.1843, abs=1e-4))
    assert intervals.at_most(17) == pytest.approx(0.1616, abs=1e-4)
    assert intervals.at_most(1) == pytest.approx(0.95)
    for wrong in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="of something"):
            intervals.share(*wrong)


def test_known_numbers() -> None:
    found = intervals.mean([1.0, 2.0, 3.0, 4.0])  # t of 3 degrees of freedom: 3.1824
    assert found.value == 2.5
    assert found.high - 2.5 == pytest.approx(3.1824 * math.sqrt(5 / 3) / 2, rel=1e-4)
    assert intervals.rows_needed(0.1, 0.025) == 128
    assert intervals.paired_shares([True] * 9, [False] * 9).above
    assert not intervals.paired_shares([True, False], [False, True]).above


def test_what_gives_no_interval_is_an_error() -> None:
    with pytest.raises(ValueError, match="two values"):
        intervals.mean([1.0])
    with pytest.raises(ValueError, match="both sides"):
        intervals.paired_shares([], [])
