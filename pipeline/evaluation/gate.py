"""May it go live? One verdict of what was measured; whoever shows it only prints it.

Better than the base must be shown. Everything else stops only what is shown to do harm, as few rows
can refuse nothing else: to ask of 17 rows that they prove a specialist as good as the one before
would refuse four honest ones of five (DECISIONS.md, "Evaluation"). `strict` turns that round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.evaluation import words
from pipeline.evaluation.answers.measures import Answered, Judged
from pipeline.evaluation.answers.rules import late
from pipeline.evaluation.compare import Comparison
from pipeline.evaluation.rivals import Evaluation
from pipeline.release.verdict import Check
from pipeline.spec.rules import Rule

MARGIN = 0.05  # nats per token that a strict policy allows it to be worse than what is served
FORGOT = -0.1  # share of everyday questions
DRIFTED = 0.5  # nats per token
ENDLESS = (2, 0.05)  # answers that do not end: so many, and so large a share
COPYING = 0.1  # of the answers
COSTLY = 0.05  # nats per token that storing may cost unsaid
SURE = 4  # rows that must all be better where there are too few for an interval

MORE = "Train longer (--set tune.epochs=…), or look at the data: are its answers of one kind?"
LESS = "Fewer epochs (--set tune.epochs=…) or a lower rate (--set tune.learning_rate=…)."


@dataclass(frozen=True)
class Bounds:
    """What the user asks of a version."""

    policy: Literal["harm", "strict"] = "harm"
    """strict: what is not shown either way stops, too."""
    require_examples: bool = False
    """It must not be worse than its base with examples in the prompt."""
    rules: tuple[Rule, ...] = ()
    """That its answers have to keep."""
    keeps: bool = True
    """Training was told to keep what the base knew (tune.keep): then far drift is a fault."""


def checks(
    found: Evaluation, bounds: Bounds, *, cost: float | None = None, decided: int = 0
) -> list[Check]:
    """Every question, answered.

    Args:
        cost: nats per token that merging and storing took of what was trained; None if not known.
        decided: how many versions these rows have judged before.
    """
    every = [
        _better(found),
        *(_examples(each, bounds) for each in found.comparisons if each.kind == "examples"),
        *(_version(each, bounds) for each in found.comparisons if each.kind == "version"),
        *_forgetting(found, bounds),
        *_answers(found.answers),
        *_stored(cost),
        *_used_up(decided),
        *(_missing(line) for line in found.missing),
    ]
    if bounds.policy == "strict":
        return [each.model_copy(update={"blocks": each.found != "good"}) for each in every]
    return every


def unseen(name: str, rows: int, needed: int) -> Check:
    """Nothing was held back to test on."""
    return Check(
        name="held-out rows",
        found="open",
        blocks=False,
        sentence=f"{name} is not evaluated: of {rows} rows none is held back to test on",
        next_step=f"Add at least {needed} rows.",
    )


def _better(found: Evaluation) -> Check:
    name = "better than the base"
    base = next((each for each in found.comparisons if each.kind == "base"), None)
    if base is None:
        return Check(name=name, found="open", blocks=False, sentence="The base is not measured")
    said = words.sentence(base)
    if base.surely is not None:
        good = base.surely.above
        return Check(
            name=name,
            found="good" if good else "bad" if base.surely.below else "open",
            blocks=not good,
            sentence=said,
            next_step="" if good else MORE,
        )
    if base.less <= 0:
        return Check(name=name, found="bad", blocks=True, sentence=said, next_step=MORE)
    sure = base.better == base.rows >= SURE
    return Check(name=name, found="good" if sure else "open", blocks=False, sentence=said)


def _examples(one: Comparison, bounds: Bounds) -> Check:
    worse = one.surely is not None and one.surely.below
    return Check(
        name=one.rival,
        found=_outcome(one),
        blocks=worse and bounds.require_examples,
        sentence=words.sentence(one),
        next_step="A prompt with examples does it better: more rows, or a larger base."
        if worse
        else "",
    )


def _version(one: Comparison, bounds: Bounds) -> Check:
    outcome = _outcome(one)
    if bounds.policy == "strict" and one.surely is not None and one.surely.low > -MARGIN:
        outcome = "good"  # at least as good, but for what nobody notices
    return Check(
        name=one.rival,
        found=outcome,
        blocks=outcome == "bad",
        sentence=words.sentence(one),
        next_step=f"{one.rival} stays. What has changed since: the data, the settings, the base?"
        if outcome == "bad"
        else "",
    )


def _outcome(one: Comparison) -> Literal["good", "open", "bad"]:
    if one.surely is None:
        return "open"
    return "good" if one.surely.above else "bad" if one.surely.below else "open"


def _forgetting(found: Evaluation, bounds: Bounds) -> Iterator[Check]:
    name = found.specialist.name
    if found.memory:
        lost = found.memory.more.high < FORGOT
        yield Check(
            name="everyday questions",
            found="bad" if lost else "open" if found.memory.forgot else "good",
            blocks=lost,
            sentence=words.remembered(found.memory, name),
            next_step=LESS if lost else "",
        )
    if found.drift:
        far = found.drift.kl.low > DRIFTED
        yield Check(
            name="off its subject",
            found="bad" if far else "open" if found.drift.far else "good",
            blocks=far and bounds.keeps,
            sentence=words.drifted(found.drift, name),
            next_step=LESS if far else "",
        )


def _answers(found: Answered | None) -> Iterator[Check]:
    """What holds of every answer is asked of each; what may happen, of most."""
    if found is None or not found.count:
        return
    some = found.count
    endless = found.endless >= ENDLESS[0] and found.endless > ENDLESS[1] * some
    told = words.ended(found)
    yield Check(
        name="answers end",
        found="bad" if found.empty or endless else "open" if found.endless else "good",
        blocks=bool(found.empty) or endless,
        sentence=told,
        next_step="Look at the ends of the answers in the data, and at the PARAMETERs."
        if found.empty or endless
        else "",
    )
    for rule in found.rules:
        broken = found.breaking(rule)
        over = len(broken) > rule.max_broken * some
        yield Check(
            name=f"rule {rule.name}",
            found="bad" if over else "good",
            blocks=over,
            sentence=words.kept(rule, broken, some),
            next_step=_mend(rule, broken) if over else "",
        )
    copying = found.copying > COPYING * some
    yield Check(
        name="copying",
        found="open" if copying else "good",
        blocks=False,
        sentence=words.copying(found),
        next_step="Fewer epochs (--set tune.epochs=…)." if copying else "",
    )
    yield Check(
        name="facts",
        found="open" if found.inventing else "good",
        blocks=False,
        sentence=words.facts(found),
        next_step="Look at these answers on the page." if found.inventing else "",
    )


def _mend(rule: Rule, broken: Sequence[Judged]) -> str:
    if any(late(one.broken[rule.name]) for one in broken):
        return f"Write the pattern of {rule.name} otherwise: it takes too long."
    return f"Do the rows keep {rule.name}? Then more of them, or a larger base."


def _stored(cost: float | None) -> Iterator[Check]:
    if cost is None:
        return
    good = cost <= COSTLY
    yield Check(
        name="stored",
        found="good" if good else "open",
        blocks=False,
        sentence=f"Stored, it loses {max(cost, 0.0):.2f} nats per token of what was trained",
        next_step="" if good else "A type with more bits keeps more: --quantize Q8_0.",
    )


def _used_up(decided: int) -> Iterator[Check]:
    if said := words.worn(decided + 1):
        yield Check(
            name="held-out rows",
            found="open",
            blocks=False,
            sentence=said,
            next_step="Add new rows.",
        )


def _missing(line: str) -> Check:
    return Check(name="not measured", found="open", blocks=False, sentence=line)
