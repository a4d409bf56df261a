"""What a specialist forgot of what its base knew: the same everyday questions, asked of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation import intervals
from pipeline.evaluation.intervals import Interval

ALIKE = 0.75  # of tokens


@dataclass(frozen=True)
class Drift:
    """How far a specialist goes from what its base answers to everyday questions."""

    kl: Interval
    """KL(base || specialist) in nats per token, mean over questions."""
    same: float
    """Share of the base's tokens that are the specialist's likeliest, too."""

    @property
    def far(self) -> bool:
        """It goes on otherwise at more than every fourth token."""
        return self.same < ALIKE


def drift(lines: Sequence[Mapping[str, Any]]) -> Drift:
    """Of the lines of `Drifted`."""
    tokens = sum(line["tokens"] for line in lines)
    return Drift(
        intervals.mean([line["kl"] / line["tokens"] for line in lines]),
        sum(line["same"] for line in lines) / tokens,
    )


@dataclass(frozen=True)
class Memory:
    """Base and specialist on the same questions."""

    questions: int
    base: int
    """Right answers of the base."""
    specialist: int
    kept: int
    """Of those that the base had right."""
    more: Interval
    """How much larger the specialist's share is; below 0 it forgot."""
    surer: Interval
    """By how many nats more it prefers the right answer to the best wrong one."""
    languages: Mapping[str, tuple[int, int, int]]
    """Questions, and how many base and specialist have right, by language."""

    @property
    def forgot(self) -> bool:
        """Shown, not guessed."""
        return self.more.below


def memory(base: Sequence[Mapping[str, Any]], specialist: Sequence[Mapping[str, Any]]) -> Memory:
    """Of the lines of two `Recalled` in the same order."""
    right = [[line["margin"] > 0 for line in lines] for lines in (base, specialist)]
    both = zip(base, specialist, strict=True)
    surer = [after["margin"] - before["margin"] for before, after in both]
    languages = {}
    for language in sorted({line["language"] for line in base}):
        mine = [i for i, line in enumerate(base) if line["language"] == language]
        before, after = (sum(side[i] for i in mine) for side in right)
        languages[language] = (len(mine), before, after)
    return Memory(
        questions=len(base),
        base=sum(right[0]),
        specialist=sum(right[1]),
        kept=sum(a and b for a, b in zip(*right, strict=True)),
        more=intervals.paired_shares(right[1], right[0]),
        surer=intervals.mean(surer),
        languages=languages,
    )
