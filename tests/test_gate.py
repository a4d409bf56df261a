"""The verdict: harm that is shown stops, honest work goes live, and what is not known is said."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from pipeline.evaluation.compare import Kind, Measured
from pipeline.evaluation.gate import Bounds, checks
from pipeline.evaluation.intervals import Interval
from pipeline.evaluation.memory import Drift, Memory, memory
from pipeline.evaluation.rivals import Evaluation
from pipeline.release.verdict import Verdict, verdict
from pipeline.release.version import Version


def measured(name: str, kind: Kind, losses: list[float]) -> Measured:
    return Measured(name, {f"row {i}": loss for i, loss in enumerate(losses)}, 0, 0, kind)


def evaluation(
    own: list[float], base: list[float] | None, served: list[float] | None = None, **more: Any
) -> Evaluation:
    rivals = []
    if base is not None:
        rivals.append(measured("the base", "base", base))
    if served is not None:
        rivals.append(measured("tiny:v3", "version", served))
    version = Version(version=0, name="tiny", manifest="", ollama="")
    known = {"memory": None, "drift": None, **more}
    return Evaluation(version, measured("the new tiny", "specialist", own), tuple(rivals), **known)


def judged(found: Evaluation, bounds: Bounds | None = None, **more: Any) -> Verdict:
    return verdict(checks(found, bounds or Bounds(), **more))


GOOD = [3.0, 3.1, 2.9, 3.0, 3.2, 3.0, 3.1]
BASE = [4.4, 4.5, 4.2, 4.5, 4.6, 4.3, 4.4]


def test_better_than_the_base_goes():
    assert judged(evaluation(GOOD, BASE)) == Verdict(
        checks=tuple(checks(evaluation(GOOD, BASE), Bounds()))
    )


@pytest.mark.parametrize("own", [BASE, [loss + 0.3 for loss in BASE]])
def test_what_is_not_better_than_the_base_is_stopped(own):
    found = judged(evaluation(own, BASE))
    assert found.says == "stop"
    assert found.checks[0].next_step.startswith("Train longer")


def test_worse_than_what_is_served_is_stopped_and_equal_is_an_open_question():
    worse = judged(evaluation(GOOD, BASE, [loss - 0.2 for loss in GOOD]))
    assert worse.says == "stop" and worse.reasons[0].startswith("Worse than tiny:v3 on 7 of 7 rows")
    wavering = [loss + (-1) ** i * 0.1 for i, loss in enumerate(GOOD)]
    told = judged(evaluation(GOOD, BASE, wavering))
    assert told.says == "go with open questions"
    assert "rows would show one of that size" in told.reasons[0]


def test_a_strict_policy_wants_it_shown_but_for_what_nobody_notices():
    strict = Bounds(policy="strict")
    wavering = [loss + (-1) ** i * 0.1 for i, loss in enumerate(GOOD)]
    assert judged(evaluation(GOOD, BASE, wavering), strict).says == "stop"
    near = [loss + (-1) ** i * 0.01 for i, loss in enumerate(GOOD)]
    assert judged(evaluation(GOOD, BASE, near), strict).says == "go"
    assert judged(evaluation(GOOD, None, missing=("the base is gone",)), strict).says == "stop"


def test_few_rows_decide_only_where_all_say_the_same():
    assert judged(evaluation(GOOD[:4], BASE[:4])).says == "go"
    assert judged(evaluation(GOOD[:2], BASE[:2])).says == "go with open questions"
    assert judged(evaluation(BASE[:2], GOOD[:2])).says == "stop"


def test_a_base_with_examples_that_does_it_better_stops_only_where_that_is_asked():
    rival = measured("the base with 8 examples", "examples", [loss - 0.3 for loss in GOOD])
    found = evaluation(GOOD, BASE)
    found = replace(found, rivals=(*found.rivals, rival))
    assert judged(found).says == "go with open questions"
    assert judged(found, Bounds(require_examples=True)).says == "stop"


def remembered(right: int, still: int) -> Memory:
    lines = [
        [{"margin": 1.0 if i < count else -1.0, "language": "English"} for i in range(160)]
        for count in (right, still)
    ]
    return memory(*lines)


def test_what_it_forgot_stops_beyond_ten_points():
    assert judged(evaluation(GOOD, BASE, memory=remembered(100, 97))).says == "go"
    assert judged(evaluation(GOOD, BASE, memory=remembered(100, 60))).says == "stop"


def test_far_off_its_subject_stops_what_was_told_to_keep():
    far = Drift(Interval(1.1, 1.0, 1.2), 0.5)
    assert judged(evaluation(GOOD, BASE, drift=far)).says == "stop"
    told = judged(evaluation(GOOD, BASE, drift=far), Bounds(keeps=False))
    assert told.says == "go with open questions"
    near = Drift(Interval(0.07, 0.05, 0.09), 0.9)
    assert judged(evaluation(GOOD, BASE, drift=near)).says == "go"


def test_rows_that_have_chosen_often_are_told():
    assert judged(evaluation(GOOD, BASE), decided=8).says == "go"
    told = judged(evaluation(GOOD, BASE), decided=10)
    assert told.reasons == ("These rows have chosen among 11 candidates: add new ones",)


def test_a_coarse_type_is_told():
    assert judged(evaluation(GOOD, BASE), cost=0.01).says == "go"
    assert "0.12 nats" in judged(evaluation(GOOD, BASE), cost=0.12).reasons[0]


@pytest.mark.parametrize("rows", [17, 100])
def test_the_same_model_again_is_blocked_at_most_eight_times_of_a_hundred(rows):
    dice = random.Random(rows)
    stopped = 0
    for _ in range(400):
        own = [dice.gauss(3.2, 0.6) for _ in range(rows)]
        base = [loss + abs(dice.gauss(1.5, 0.5)) for loss in own]
        served = [loss + dice.gauss(0, 0.1) for loss in own]
        stopped += judged(evaluation(own, base, served)).says == "stop"
    assert stopped <= 0.08 * 400
