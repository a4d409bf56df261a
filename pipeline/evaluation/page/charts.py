"""Where the marks of a chart stand: across in per cent, so that letters keep their size.

A chart is as wide as the page lets it be; heights are pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.common.words import size
from pipeline.evaluation.compare import Comparison
from pipeline.evaluation.page.report import Curve, Rung

LEFT, RIGHT = 13.0, 96.0  # per cent, between which there are marks
TOP, BOTTOM = 24.0, 206.0  # pixels, of charts with two axes
ROW = 52  # pixels of a whisker and its label
SEEN = 300  # points of a line; more cannot be told apart


@dataclass(frozen=True)
class Axis:
    """From the least to the most, and round numbers between."""

    low: float
    high: float
    ticks: tuple[float, ...]
    start: float = LEFT
    """Per cent from the left, where there is the least."""

    def along(self, value: float, start: float, end: float) -> float:
        """Where a value stands between two ends."""
        return round(start + (value - self.low) / (self.high - self.low) * (end - start), 2)

    def across(self, value: float) -> float:
        """Per cent from the left."""
        return self.along(value, self.start, RIGHT)

    def up(self, value: float) -> float:
        """Pixels from the top."""
        return self.along(value, BOTTOM, TOP)


def axis(values: Sequence[float], *, most: int = 5, start: float = LEFT) -> Axis:
    """An axis with round ticks that holds all values."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * x for x in (1, 2, 5, 10) if span / (power * x) <= most)
    first, last = math.floor(low / step), math.ceil(high / step)
    last += first == last
    ticks = tuple(i * step for i in range(first, last + 1))
    return Axis(first * step, last * step, ticks, start)


@dataclass(frozen=True)
class Whisker:
    """An estimate and its interval."""

    label: str
    at: float
    low: float | None
    high: float | None
    top: int
    """Pixels, of the label's base line."""
    comparison: Comparison


@dataclass(frozen=True)
class Whiskers:
    """Differences around nothing."""

    rows: tuple[Whisker, ...]
    zero: float
    ticks: tuple[tuple[float, float], ...]
    """Per cent from the left, and the number."""
    height: int


def whiskers(found: Sequence[Comparison]) -> Whiskers:
    """How much less a specialist loses than each of its rivals."""
    known = [one.interval for one in found if one.interval]
    ends = [x for one in known for x in (one.low, one.high)]
    scale = axis([0.0, *(one.less for one in found), *ends], start=4.0)
    rows = tuple(
        Whisker(
            label=f"against {one.rival}",
            at=scale.across(one.less),
            low=scale.across(one.interval.low) if one.interval else None,
            high=scale.across(one.interval.high) if one.interval else None,
            top=i * ROW + 18,
            comparison=one,
        )
        for i, one in enumerate(found)
    )
    ticks = tuple((scale.across(tick), tick) for tick in scale.ticks)
    return Whiskers(rows, scale.across(0.0), ticks, len(rows) * ROW + 30)


@dataclass(frozen=True)
class Dot:
    """A type on the ladder."""

    label: str
    x: float
    y: float
    left: bool
    """Its label stands on the left of it."""
    served: bool


@dataclass(frozen=True)
class Line:
    """A curve in stretches, which are given in per cent and pixels."""

    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def stretches(self) -> tuple[tuple[float, float, float, float], ...]:
        """From each point to the next."""
        pairs = zip(self.points, self.points[1:], strict=False)
        return tuple((x, y, to_x, to_y) for (x, y), (to_x, to_y) in pairs)


@dataclass(frozen=True)
class Plane:
    """A chart with two axes."""

    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]
    dots: tuple[Dot, ...] = ()
    lines: tuple[Line, ...] = ()


def ladder(found: Sequence[Rung]) -> Plane:
    """Size across, KL up; KL spans powers of ten, so its axis does."""
    sizes = axis([0.0, *(one.size for one in found)], most=4)
    logs = [math.log10(max(one.kl, 1e-5)) for one in found]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    scale = Axis(low, max(high, low + 1), tuple(range(low, max(high, low + 1) + 1)))
    dots = tuple(
        Dot(one.type, x := sizes.across(one.size), scale.up(at), x > 70, one.served)
        for one, at in zip(found, logs, strict=True)
    )
    return Plane(
        across=tuple((sizes.across(x), size(x) if x else "0") for x in sizes.ticks),
        up=tuple((scale.up(y), f"{10**y:g}") for y in scale.ticks),
        dots=dots,
    )


def lines(found: Sequence[Curve]) -> Plane:
    """Epochs across, nats per token up."""
    every = [point for one in found for point in one.points]
    epochs, losses = (axis([point[i] for point in every]) for i in (0, 1))
    drawn = tuple(
        Line(one.name, tuple((epochs.across(x), losses.up(y)) for x, y in thinned(one.points)))
        for one in found
    )
    return Plane(
        across=tuple((epochs.across(x), f"{x:g}") for x in epochs.ticks),
        up=tuple((losses.up(y), f"{y:.3g}") for y in losses.ticks),
        lines=drawn,
    )


def thinned(
    points: Sequence[tuple[float, float]], most: int = SEEN
) -> Sequence[tuple[float, float]]:
    """About that many of them, the last one too."""
    step = max(1, math.ceil(len(points) / most))
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]
