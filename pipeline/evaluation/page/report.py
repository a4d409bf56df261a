"""What a page shows, and nothing else: values without a path, a store or a model behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.evaluation.compare import Comparison, Measured
from pipeline.evaluation.intervals import Interval
from pipeline.evaluation.memory import Drift, Memory
from pipeline.release.verdict import Check

Kind = Literal["good", "open", "bad"]


@dataclass(frozen=True)
class Remark:
    """What is not shown to be good."""

    kind: Kind
    sentence: str


@dataclass(frozen=True)
class Ruling:
    """The verdict, for people."""

    kind: Kind | Literal["none"]
    """`none` where nothing was judged."""
    word: str
    sentence: str
    more: str = ""
    open: tuple[Remark, ...] = ()
    """What speaks against it, and what is not shown either way."""
    next: tuple[str, ...] = ()
    """What to do, the most useful first."""
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Figure:
    """One of the numbers on top."""

    label: str
    value: str
    unit: str
    between: str
    """The interval, or why there is none."""
    note: str
    kind: Kind


@dataclass(frozen=True)
class Row:
    """A held-out row: what was asked, what is right, what each model makes of it."""

    place: str
    """`rows.jsonl:12`."""
    question: str
    reference: str
    answers: Mapping[str, str] = field(default_factory=dict)
    """What models said, by their names."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Nats per token of the reference, by the models' names."""
    remarks: tuple[str, ...] = ()
    """`invented: 12 €`."""
    before: tuple[tuple[str, str], ...] = ()
    """Turns before the question: whose, and what was said."""
    more: float | None = None
    """Nats per token that the specialist loses more than its base; above 0 it is worse."""

    @property
    def worse(self) -> bool:
        """The specialist finds the right answer less likely than its base does."""
        return self.more is not None and self.more > 0


@dataclass(frozen=True)
class Rung:
    """The specialist in one type, against itself in 16 bits."""

    type: str
    size: int
    """Bytes."""
    kl: float
    """KL(16 bits || this) in nats per token, mean."""
    kl99: float | None = None
    """Of the worst token of a hundred."""
    same: float | None = None
    """Share of tokens at which both have the same likeliest."""
    loss: Interval | None = None
    """Nats per token that it loses more on held-out rows."""
    pace: float | None = None
    """Tokens a second."""
    served: bool = False


@dataclass(frozen=True)
class Curve:
    """A loss while it was trained."""

    name: str
    points: tuple[tuple[float, float], ...]
    """Epochs, nats per token."""


@dataclass(frozen=True)
class Fact:
    """Something known, by its name."""

    name: str
    value: str
    private: bool = False
    """Left out where rows are: words of the company, or a place on its machine."""


@dataclass(frozen=True)
class Report:
    """All that a page shows of a version."""

    tag: str
    when: str
    """Of the release; '' if unknown."""
    ruling: Ruling
    figures: tuple[Figure, ...]
    specialist: Measured
    rivals: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    memory: Memory | None = None
    drift: Drift | None = None
    rows: tuple[Row, ...] = ()
    """Worst first."""
    ladder: tuple[Rung, ...] = ()
    curves: tuple[Curve, ...] = ()
    data: tuple[Fact, ...] = ()
    provenance: tuple[Fact, ...] = ()
    settings: tuple[Fact, ...] = ()
    proof: str = ""
    """The proof in a line; '' where none is recorded."""

    @property
    def models(self) -> tuple[Measured, ...]:
        """All of them, the highest loss first."""
        return tuple(sorted((self.specialist, *self.rivals), key=lambda one: -one.loss))
