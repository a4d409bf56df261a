"""The verdict of a version's record in words: what is decided there is only told here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.evaluation import words
from pipeline.evaluation.compare import Comparison
from pipeline.evaluation.page.order import in_order
from pipeline.evaluation.page.report import Kind, Remark, Ruling
from pipeline.evaluation.rivals import Evaluation
from pipeline.release.verdict import Check, Verdict

KINDS: dict[str, tuple[Kind, str]] = {
    "go": ("good", "Go"),
    "go with open questions": ("open", "Go, with open questions"),
    "stop": ("bad", "Stop"),
}


def ruling(made: Evaluation) -> Ruling:
    """What was decided of a version, what is open, and what to do next.

    A record of before there were checks says what was measured now, and that nothing was judged.
    """
    verdict = made.version.verdict or Verdict()
    judged = bool(verdict.checks or verdict.reasons or verdict.says != "go")
    colour, word = KINDS[verdict.says]
    first = words.sentence(made.comparisons[0]) if made.comparisons else ""
    if base := next((one for one in made.comparisons if one.kind == "base"), None):
        first = words.sentence(base)
    stops = [one.sentence for one in verdict.checks if one.found == "bad" and one.blocks]
    if verdict.says == "stop":
        first, *others = [one.rstrip(".") for one in stops or verdict.reasons] or [first]
    else:
        others = []
    head, _, more = first.partition(": ")
    more = ". ".join(_capital(one) for one in [more, *others] if one)
    return Ruling(
        kind=colour if judged else "none",
        word=word if judged else "Not judged",
        sentence=head or f"{made.version.tag} was compared with nothing",
        more=more,
        open=tuple(_open(made, verdict.checks, verdict.reasons)),
        next=tuple(dict.fromkeys(_next(made, verdict.checks))),
        checks=verdict.checks,
    )


def _open(made: Evaluation, checks: Iterable[Check], reasons: Iterable[str]) -> Iterator[Remark]:
    if checks:
        yield from (Remark(one.found, one.sentence) for one in checks if one.found == "bad")
        yield from (Remark(one.found, one.sentence) for one in checks if one.found == "open")
        return
    yield from (Remark("open", one) for one in reasons)
    for one in in_order(made.comparisons):
        if one.verdict == "worse" or _unsettled(one):
            yield Remark("bad" if one.verdict == "worse" else "open", words.sentence(one))
    if made.memory and made.memory.forgot:
        yield Remark("bad", words.remembered(made.memory, made.version.tag))
    if made.drift and made.drift.far:
        yield Remark("bad", words.drifted(made.drift, made.version.tag))


def _unsettled(one: Comparison) -> bool:
    """Another type of the same model should not be told from it."""
    return one.verdict == "open" and one.kind != "type"


def _next(made: Evaluation, checks: Iterable[Check]) -> Iterator[str]:
    """What the checks say, else what the measures call for; reading rows is never wrong."""
    found = [one for one in checks if one.found != "good" and one.next_step]
    yield from (one.next_step for one in sorted(found, key=lambda one: one.found != "bad"))
    name = made.version.name
    if not checks and ((made.memory and made.memory.forgot) or (made.drift and made.drift.far)):
        fewer = _fewer(made.version.settings)
        yield f"Train less, so that more of the base stays: specialist make {name} … --set {fewer}"
    if not checks and any(one.interval is None for one in made.comparisons):
        yield "Add rows: so few are kept back that a comparison says nothing."
    elif not checks and any(_unsettled(one) for one in made.comparisons):
        yield "Add rows: what is open above says how many have to be kept back to settle it."
    yield f"Read rows, the worst first, and ask it yourself: specialist ask {name}"


def _fewer(settings: dict[str, dict[str, Any]]) -> str:
    """The setting, with the value where the record tells what it was."""
    epochs = settings.get("tune", {}).get("epochs")
    fewer = max(1, round(epochs * 0.6)) if isinstance(epochs, (int, float)) else None
    return f"tune.epochs={'…' if fewer is None or fewer == epochs else fewer}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
