"""What was found, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.evaluation import intervals
from pipeline.evaluation.answers.measures import Answered, Judged
from pipeline.evaluation.compare import CLEARLY, FEWEST, Comparison
from pipeline.evaluation.memory import Drift, Memory
from pipeline.spec.rules import Rule

NOTHING = 1e-6  # nats
WORN = 10  # candidates that the same rows may choose among before it is said


def sentence(found: Comparison) -> str:
    """Of one comparison: what is shown, and how sure it is."""
    rows = f"{found.better} of {found.rows} rows"
    if found.interval is None:
        needed = FEWEST - found.rows
        return (
            f"Too few rows to compare with {found.rival}: better on {rows}; {needed} more would do"
        )
    if max(abs(found.less), found.spread) < NOTHING:
        return f"Equal to {found.rival} on all {found.rows} rows"
    if found.verdict == "open":
        low, high = -found.interval.high, -found.interval.low  # as what the specialist loses more
        return (
            f"Not to be told from {found.rival} by these rows: the difference is"
            f" {-found.less:+.2f} nats per token ({low:+.2f} to {high:+.2f}); about"
            f" {_needed(found)} rows would show one of that size"
        )
    much, low, high = (abs(x) for x in (found.less, found.interval.low, found.interval.high))
    low, high = min(low, high), max(low, high)
    better = found.verdict == "better"
    word, more = ("Better", "less") if better else ("Worse", "more")
    rows = rows if better else f"{found.rows - found.better} of {found.rows} rows"
    told = (
        f"{word} than {found.rival} on {rows}: {much:.2f} nats per token {more}"
        f" ({low:.2f} to {high:.2f}), so a right answer is {_times(much, better=better)} per token"
    )
    one = f"; one row makes {found.outlier:.0%} of the difference"
    return told + (one if found.rows >= FEWEST and found.outlier > CLEARLY else "")


def remembered(found: Memory, name: str) -> str:
    """What is left of what the base knew."""
    points = [round(100 * x) for x in (found.more.value, found.more.low, found.more.high)]
    by = ", ".join(
        f"{language} {before} → {after}" for language, (_, before, after) in found.languages.items()
    )
    told = (
        f"Everyday questions: the base has {found.base} of {found.questions} right, {name}"
        f" {found.specialist}; of the base's it keeps {found.kept} ({by}; {points[0]:+d} points,"
        f" {points[1]:+d} to {points[2]:+d})"
    )
    if found.forgot:
        return f"{told}: it forgot. Fewer epochs keep more (--set tune.epochs=…)"
    return f"{told}: no forgetting is shown"


def drifted(found: Drift, name: str) -> str:
    """Whether it still speaks as its base does, off its subject."""
    told = (
        f"Off its subject {name} goes on as the base would at {found.same:.0%} of the words"
        f" ({found.kl.value:.2f} nats per token away, {found.kl.low:.2f} to {found.kl.high:.2f})"
    )
    if found.far:
        return (
            f"{told}: its voice runs into everything. Fewer epochs, or a lower rate, hold it back"
        )
    return told


def _times(nats: float, *, better: bool) -> str:
    """The difference as a ratio of probabilities."""
    word = "likelier" if better else "less likely"
    if nats >= math.log(2):
        return f"{math.exp(nats):.1f} times {word}"
    return f"{math.expm1(nats) if better else -math.expm1(-nats):.0%} {word}"


def _needed(found: Comparison) -> str:
    count = intervals.rows_needed(found.spread, max(abs(found.less), NOTHING))
    return f"{count:,}" if count < 100_000 else "far more"


def worn(candidates: int) -> str:
    """That a test part has chosen often, so that who passes it may only fit it; '' below 10.

    Args:
        candidates: that were judged on it, this one among them.
    """
    if candidates < WORN:
        return ""
    return f"These rows have chosen among {candidates} candidates: add new ones"


def answers(found: Answered) -> list[str]:
    """What answers are like, a sentence each."""
    some = [ended(found), facts(found), copying(found)]
    some += [kept(rule, found.breaking(rule), found.count) for rule in found.rules]
    if found.straying:
        some.append(f"{found.straying} of {found.count} answers are in another language")
    return [*some, f"They are {found.likeness:.0f} of 100 like the right ones (chrF++)"]


def ended(found: Answered) -> str:
    """Whether answers end by themselves and say something."""
    some = f"{found.count} answer{'' if found.count == 1 else 's'}"
    if found.empty:
        return f"{found.empty} of {some} are empty"
    if found.endless:
        share = _between(intervals.share(found.endless, found.count))
        return f"{found.endless} of {some} do not end by themselves, or go in circles ({share})"
    return f"All {some} end by themselves (at most {intervals.at_most(found.count):.0%} do not)"


def kept(rule: Rule, broken: Sequence[Judged], some: int) -> str:
    """Whether answers keep a rule of the user's."""
    if not broken:
        return f"All {some} answers keep the rule {rule.name}"
    first = broken[0].broken[rule.name]
    return (
        f"{len(broken)} of {some} answers break the rule {rule.name}"
        f" ({_between(intervals.share(len(broken), some))}; {rule.max_broken:.0%} may): {first}"
    )


def _between(share: intervals.Interval) -> str:
    return f"{share.low:.0%} to {share.high:.0%}"


def copying(found: Answered) -> str:
    """Whether answers are what one row says."""
    if not found.copying:
        return "No answer copies twelve words of one row"
    return f"{found.copying} of {found.count} answers copy twelve words or more of one row"


def facts(found: Answered) -> str:
    """Exact facts: those of the references that answers have, and those that stand nowhere."""
    there, lacking = (
        sum(len(getattr(one, name)) for one in found.judged) for name in ("recalled", "lacking")
    )
    told = f"Exact facts: {there} of {there + lacking} of the right answers are given"
    if not there + lacking:
        told = "Exact facts: the right answers have none"
    if not found.inventing:
        return f"{told}, none is invented"
    some = [fact for one in found.inventing for fact in one.invented]
    return (
        f"{told}; {len(found.inventing)} of {found.count} answers invent some, as"
        f" {', '.join(some[:3])}"
    )
