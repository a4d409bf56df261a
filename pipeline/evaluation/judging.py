"""Measure a proven candidate and judge it: what `make` asks between proof and promotion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from textwrap import shorten
from typing import Any

from pipeline.bases.reference import Reference
from pipeline.common.errors import BadInput, Missing
from pipeline.common.names import full
from pipeline.evaluation import gate
from pipeline.evaluation.answers.asked import with_answers
from pipeline.evaluation.answers.asking import Report
from pipeline.evaluation.compare import Measured
from pipeline.evaluation.gate import Bounds
from pipeline.evaluation.rivals import Evaluation, Say, measure, with_version
from pipeline.made.artifacts import Specialist
from pipeline.made.conversations import Conversations
from pipeline.release import held_out, history
from pipeline.release.candidate import Candidate
from pipeline.release.proof import Proof, origin
from pipeline.release.verdict import Check, Judge, Verdict, verdict
from pipeline.release.version import Version
from pipeline.run.engine import Engine
from pipeline.stages.preparing.sizes import WITHOUT_TEST
from pipeline.stages.score import named
from pipeline.tools.ollama import Ollama

WORST = 3  # rows that are shown


def unasked(made: Specialist, candidate: Candidate, proof: Proof) -> Verdict:
    """Who decides where the user wants nothing measured."""
    told = f"{made.name} is not evaluated, as evaluate.enabled = false says"
    return verdict([Check(name="evaluated", found="open", blocks=False, sentence=told)])


def judge(
    base: Callable[[], Reference],
    engine: Engine,
    ollama: Ollama,
    bounds: Bounds,
    say: Say,
    report: Report = lambda progress: None,
    keep: Callable[[Evaluation], None] = lambda found: None,
) -> Judge:
    """Who decides for `release`.

    Args:
        base: finds the base.
        say: told what is measured.
        report: told how far the answers are.
        keep: given what was measured.
    """

    def decide(made: Specialist, candidate: Candidate, proof: Proof) -> Verdict:
        if not made.data.test:
            needed = max(1, WITHOUT_TEST - made.data.rows)
            return verdict([gate.unseen(made.name, made.data.rows, needed)])
        new = Version(
            version=0, name=made.name, manifest=candidate.digest, ollama=ollama.address.url
        )
        found = _beside_served(measure(new, made, base, engine, say), made, engine, ollama)
        say("its answers, as a user gets them")
        found = with_answers(found, made, ollama, candidate.name, bounds.rules, report)
        keep(found)
        decided = held_out.times_decided(history.history(made.name), made.data)
        every = gate.checks(found, bounds, cost=proof.stored, decided=decided)
        return verdict(every, _worst(found, made))

    return decide


def _beside_served(
    found: Evaluation, made: Specialist, engine: Engine, ollama: Ollama
) -> Evaluation:
    """With what NAME is now, if it is a version of it."""
    known = history.history(made.name)
    served = known.served(ollama.digest(full(made.name))) if known else None
    if served is None:
        return found
    try:
        return with_version(found, made, served, engine)
    except (BadInput, Missing) as error:
        line = f"it is not compared with {served.tag}: {error.what}"
        return replace(found, missing=(*found.missing, line))


def _worst(found: Evaluation, made: Specialist) -> list[str]:
    """The rows on which it gains least, with their places in the user's file."""
    base = next((each for each in found.rivals if each.kind == "base"), None)
    if base is None:
        return []
    worst = sorted(base.rows, key=lambda row: base.rows[row] - found.specialist.rows[row])[:WORST]
    rows = {named(row): row for row in made.data.each("test")}
    return [_shown(rows[name], name, found.specialist, base, made) for name in worst]


def _shown(
    row: dict[str, Any], name: str, specialist: Measured, base: Measured, made: Specialist
) -> str:
    place = origin(row, made.rows if isinstance(made.rows, Conversations) else None)
    said = next(turn["content"] for turn in row["messages"] if turn["role"] == "user")
    asked = shorten(said, 50, placeholder=" …")
    return (
        f"{place}: “{asked}” loses {specialist.rows[name]:.2f} nats per token,"
        f" with the base {base.rows[name]:.2f}"
    )
