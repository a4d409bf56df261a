"""What the answers of a model are like, by row and all together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.answers.answer import Answer
from pipeline.evaluation.answers.copied import copies
from pipeline.evaluation.answers.facts import Fact, all_facts, invented, recalled
from pipeline.evaluation.answers.language import strayed
from pipeline.evaluation.answers.likeness import likeness
from pipeline.evaluation.answers.loops import loops
from pipeline.evaluation.answers.rules import broken
from pipeline.spec.rules import Rule


@dataclass(frozen=True)
class Judged:
    """An answer, and what is to be said of it."""

    answer: Answer
    likeness: float
    """To its reference, chrF++, 0 to 100."""
    recalled: tuple[str, ...]
    """Exact facts of the reference that it has."""
    lacking: tuple[str, ...]
    """Those that it has not."""
    invented: tuple[str, ...]
    """Exact facts that stand nowhere else: not in the question, the reference or a trained row."""
    copied: str
    """The longest run of words that one trained answer has, too."""
    loops: bool
    strayed: str
    """The other language that it is in."""
    broken: dict[str, str]
    """Rules of the user's, and how it breaks each."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """For people."""
        told = []
        if self.answer.empty:
            told.append("empty")
        if not self.answer.ends:
            told.append("does not end by itself")
        if self.loops:
            told.append("goes round in circles")
        if self.strayed:
            told.append(f"is in another language ({self.strayed})")
        told += [f"invented: {fact}" for fact in self.invented]
        told += [f"lacks: {fact}" for fact in self.lacking]
        told += [f"breaks {name}: {why}" for name, why in self.broken.items()]
        if self.copied:
            told.append(f"copied from one row: “{self.copied}”")
        return tuple(told)


@dataclass(frozen=True)
class Answered:
    """All answers of a model to held-out rows."""

    model: str
    judged: tuple[Judged, ...]
    rules: tuple[Rule, ...]

    @property
    def count(self) -> int:
        """How many answers there are."""
        return len(self.judged)

    @property
    def empty(self) -> int:
        """Answers that say nothing."""
        return sum(one.answer.empty for one in self.judged)

    @property
    def endless(self) -> int:
        """Answers that did not end by themselves, or go round in circles."""
        return sum(not one.answer.ends or one.loops for one in self.judged)

    @property
    def likeness(self) -> float:
        """Mean chrF++."""
        return math.fsum(one.likeness for one in self.judged) / max(1, self.count)

    @property
    def inventing(self) -> tuple[Judged, ...]:
        """Those that invent a fact."""
        return tuple(one for one in self.judged if one.invented)

    @property
    def copying(self) -> int:
        """Those that copy from one trained answer."""
        return sum(bool(one.copied) for one in self.judged)

    @property
    def straying(self) -> int:
        """Those in another language."""
        return sum(bool(one.strayed) for one in self.judged)

    @property
    def remarks(self) -> dict[str, tuple[str, ...]]:
        """By row."""
        found: dict[str, tuple[str, ...]] = {}
        for one in self.judged:
            found[one.answer.row] = (*found.get(one.answer.row, ()), *one.remarks)
        return found

    def breaking(self, rule: Rule) -> tuple[Judged, ...]:
        """Those that break a rule."""
        return tuple(one for one in self.judged if rule.name in one.broken)


def answered(
    answers: Sequence[Answer],
    training: Iterable[Mapping[str, Any]],
    system: str,
    rules: Sequence[Rule] = (),
) -> Answered:
    """Measure them.

    Args:
        answers: of one model.
        training: rows of a `Dataset`: what they say is not invented.
        system: as it is served.
    """
    turns = [turn for row in training for turn in row["messages"]]
    trained = all_facts([system, *(turn["content"] for turn in turns)])
    said = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    copied = copies([answer.text for answer in answers], said)
    judged = [
        _judged(answer, trained, copy, rules) for answer, copy in zip(answers, copied, strict=True)
    ]
    model = answers[0].model if answers else ""
    return Answered(model, tuple(judged), tuple(rules))


def _judged(answer: Answer, trained: Set[Fact], copied: str, rules: Sequence[Rule]) -> Judged:
    known = [answer.question, answer.reference, *answer.history]
    there, lacking = recalled(answer.text, answer.reference)
    why = {rule.name: broken(rule, answer.text) for rule in rules}
    return Judged(
        answer=answer,
        likeness=likeness(answer.text, answer.reference),
        recalled=tuple(fact.said for fact in there),
        lacking=tuple(fact.said for fact in lacking),
        invented=tuple(fact.said for fact in invented(answer.text, known, trained)),
        copied=copied,
        loops=loops(answer.text),
        strayed=strayed(answer.text, answer.reference),
        broken={name: how for name, how in why.items() if how},
    )
