"""What a release asks between proof and promotion: it bites, and lets honest work through."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import InProcess
from made import specialist

from pipeline.bases.reference import resolve
from pipeline.common.errors import Stopped
from pipeline.evaluation import judging
from pipeline.evaluation.gate import Bounds
from pipeline.evaluation.rivals import Evaluation, released
from pipeline.made.artifacts import Specialist
from pipeline.made.stage import Where
from pipeline.release import history
from pipeline.release.publish import release
from pipeline.release.version import Version
from pipeline.spec.rules import Rule
from pipeline.tools import smallest
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.ollama import Ollama


def going_live(
    made: Specialist, base_says: str, ollama: Ollama, folder: Path, **bounds: object
) -> tuple[Version, Evaluation]:
    """Release a specialist of the smallest model, whose rows say `ok`, over a base."""
    smallest.write(made.base.vocab)
    smallest.write(folder / "base.gguf", base_says)
    kept: list[Evaluation] = []
    judge = judging.judge(
        lambda: resolve(str(folder / "base.gguf"), folder),
        InProcess(),
        ollama,
        Bounds(keeps=False, **bounds),  # type: ignore[arg-type]
        lambda line: None,
        keep=kept.append,
    )
    version = release(made, ollama, judge=judge, where=Where(threads=2))
    return version, kept[-1]


def test_what_learned_its_rows_goes_live(tmp_path: Path, ollama: Ollama) -> None:
    made = specialist(tmp_path / "made", rows=40)
    version, found = going_live(made, "no", ollama, tmp_path)
    assert version.verdict is not None
    outcomes = {check.name: check.found for check in version.verdict.checks}
    assert outcomes["better than the base"] == outcomes["answers end"] == "good"
    assert found.specialist.name == "the new tiny"
    assert released(found, version).specialist.name == "tiny:v1"
    assert {one.answer.text for one in found.answers.judged} == {"ok"} if found.answers else False


def test_what_learned_nothing_is_stopped(tmp_path: Path, ollama: Ollama) -> None:
    made = specialist(tmp_path / "made", rows=40)
    with pytest.raises(Stopped, match="better on 0 of 4 rows") as stopped:
        going_live(made, smallest.SAYS, ollama, tmp_path)
    assert len(stopped.value.what.splitlines()) == 1 + judging.WORST  # the worst rows
    assert history.known("tiny").versions[-1].stopped
    assert ollama.digest("tiny") is None


def test_what_learned_other_rows_is_stopped(
    tmp_path: Path, ollama: Ollama, fake: FakeOllama
) -> None:
    fake.answer = "no"
    made = specialist(tmp_path / "made", rows=40, says="no")
    with pytest.raises(Stopped, match="better on 0 of 4 rows"):
        going_live(made, smallest.SAYS, ollama, tmp_path)


def test_empty_answers_and_broken_rules_are_stopped(
    tmp_path: Path, ollama: Ollama, fake: FakeOllama
) -> None:
    made = specialist(tmp_path / "made", rows=40)
    rule = Rule(name="polite", contains=("please",))
    with pytest.raises(Stopped, match="answers break the rule polite"):
        going_live(made, "no", ollama, tmp_path, rules=(rule,))
    version, _ = going_live(made, "no", ollama, tmp_path)  # without the rule
    assert version.label == "v2"
