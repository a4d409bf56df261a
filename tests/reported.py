"""A report of a plausible evaluation, without a model: 17 held-out rows of the shipped data."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.evaluation.compare import Kind, Measured
from pipeline.evaluation.intervals import Interval
from pipeline.evaluation.memory import Drift, memory
from pipeline.evaluation.page.gather import figures
from pipeline.evaluation.page.order import in_order
from pipeline.evaluation.page.report import Curve, Fact, Report, Row, Rung
from pipeline.evaluation.page.rows import worst_first
from pipeline.evaluation.page.ruling import ruling
from pipeline.evaluation.rivals import Evaluation
from pipeline.release.proof import Proof
from pipeline.release.verdict import Check, Verdict
from pipeline.release.version import Version

DATA = Path(__file__).parent.parent / "data" / "brand-voice.jsonl"
ROWS = 17
CHECKS = (
    Check(name="proof", found="good", blocks=True, sentence="It is served as it was trained"),
    Check(
        name="better than the base",
        found="good",
        blocks=True,
        sentence="Better than the base on 17 of 17 rows",
    ),
    Check(
        name="forgetting",
        found="open",
        blocks=False,
        sentence="160 questions do not show whether it forgot: -2 points (-8 to +5)",
        next_step="Ask it what it must not forget: specialist ask brand-voice",
    ),
    Check(
        name="voice",
        found="bad",
        blocks=False,
        sentence="Its voice runs into everything: the base's word at 53 % only",
        next_step="Train for fewer epochs: --set tune.epochs=5",
    ),
)
GO = Verdict(
    says="go with open questions", reasons=tuple(c.sentence for c in CHECKS[2:]), checks=CHECKS
)


def version(verdict: Verdict | None = None, **facts: Any) -> Version:
    """The first one of the shipped example."""
    told: dict[str, Any] = {
        "when": "2026-11-26T10:00:00+00:00",
        "settings": {"prepare": {"system": "You write copy."}, "tune": {"epochs": 8, "rank": 16}},
        "proof": Proof(
            conversations=20, tokens=987, answers=10, longest=44, tensors=272, seconds=31.0
        ),
        "quantization": "Q8_0",
        "size": 144_810_464,
    }
    return Version(
        name="brand-voice",
        version=1,
        manifest="3f" * 32,
        ollama="http://127.0.0.1:11434",
        verdict=verdict,
        **{**told, **facts},
    )


def evaluation(verdict: Verdict | None = None, rows: int = ROWS) -> Evaluation:
    """The specialist, its base as it came and with examples, and another type."""
    chance = random.Random(7)
    own = [max(0.3, chance.gauss(3.18, 0.5)) for _ in range(rows)]
    base = [x + max(chance.gauss(1.59, 0.46), -0.4) for x in own]
    shown = [x + chance.gauss(0.21, 0.18) for x in own]
    small = [x + chance.gauss(0.02, 0.05) for x in own]

    def measured(name: str, losses: list[float], ends: float, kind: Kind) -> Measured:
        by_row = {f"row {i}": loss for i, loss in enumerate(losses)}
        return Measured(name, by_row, math.fsum(losses) / rows + 0.1, ends, kind)

    specialist = measured("brand-voice:v1", own, 0.0, "specialist")
    rivals = (
        measured("brand-voice:v1 as Q4_K_M", small, 0.01, "type"),
        measured("the base", base, 3.39, "base"),
        measured("the base with 8 examples", shown, 0.04, "examples"),
    )
    questions = [{"language": "es" if i % 2 else "en", "margin": 1.0} for i in range(160)]
    before = [{**q, "margin": 1.0 if i % 8 < 5 else -1.0} for i, q in enumerate(questions)]
    after = [{**q, "margin": q["margin"] if i % 11 else -q["margin"]} for i, q in enumerate(before)]
    return Evaluation(
        version(verdict),
        specialist,
        rivals,
        memory(before, after),
        Drift(Interval(1.15, 1.05, 1.25), 0.53),
    )


def rows(found: Evaluation, *, answered: bool = False) -> tuple[Row, ...]:
    """Of the shipped data, as if they had been held back."""
    lines = DATA.read_text(encoding="utf-8").splitlines()
    made = []
    for i, key in enumerate(found.specialist.rows):
        turns = json.loads(lines[i * 11 % len(lines)])["messages"]
        question, reference = turns[-2]["content"], turns[-1]["content"]
        answers = {}
        if answered:
            words = reference.split()
            answers = {
                "the base": "Sure! Here is a short text that you could use for your product.",
                found.specialist.name: " ".join([*words[:5], "mended", "twice", *words[7:]]),
            }
        made.append(
            Row(
                place=f"data/brand-voice.jsonl:{i * 11 + 1}",
                question=question,
                reference=reference,
                answers=answers,
                losses={one.name: one.rows[key] for one in (found.specialist, *found.rivals)},
                remarks=("invented: 12 €", "ends late") if answered and i % 5 == 0 else (),
                before=tuple((turn["role"], turn["content"]) for turn in turns[:-2]),
            )
        )
    return worst_first(made, found.specialist.name, "the base")


def report(verdict: Verdict | None = None, **changes: Any) -> Report:
    """Of what can be measured today."""
    found = evaluation(verdict)
    made = Report(
        tag=found.version.tag,
        when=found.version.when or "",
        ruling=ruling(found),
        figures=figures(found),
        specialist=found.specialist,
        rivals=found.rivals,
        comparisons=in_order(found.comparisons),
        memory=found.memory,
        drift=found.drift,
        rows=rows(found),
        data=(Fact("File", "data/brand-voice.jsonl", private=True), Fact("Rows", "208")),
        provenance=(
            Fact("Base", "SmolLM2-135M-Instruct, 134,515,008 weights"),
            Fact("Manifest in Ollama", found.version.manifest),
            Fact("SYSTEM", "You write copy.", private=True),
        ),
        settings=(Fact("tune.epochs", "8"), Fact("tune.rank", "16")),
        proof=found.version.proof.summary if found.version.proof else "",
    )
    return replace(made, **changes)


def full() -> Report:
    """With everything that may come to be known."""
    down = Interval(0.004, -0.002, 0.01)
    ladder = (
        Rung("Q8_0", 144_810_464, 0.0027, 0.02, 0.976, down, 61.0, served=True),
        Rung("Q6_K", 138_000_000, 0.0071, 0.06, 0.962, down, 60.0),
        Rung("Q5_K_M", 112_000_000, 0.016, 0.11, 0.948, down, 71.0),
        Rung("Q4_K_M", 105_000_000, 0.041, 0.35, 0.921, down, 83.0),
    )
    curves = (
        Curve("training", tuple((i / 6, 2.1 + 2.4 * math.exp(-i / 14)) for i in range(49))),
        Curve("validation", tuple((float(i), 2.9 + 1.4 * math.exp(-i / 1.5)) for i in range(9))),
    )
    found = evaluation(GO)
    return report(GO, rows=rows(found, answered=True), ladder=ladder, curves=curves)
