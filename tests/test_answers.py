"""What a specialist answers to its held-out rows, through Ollama: asked once, and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made import specialist

from pipeline.common.errors import Missing
from pipeline.evaluation import gate, words
from pipeline.evaluation.answers import asking, kept
from pipeline.evaluation.answers.answer import Answer
from pipeline.evaluation.answers.measures import Answered, answered
from pipeline.evaluation.compare import Measured
from pipeline.evaluation.rivals import Evaluation
from pipeline.made.artifacts import Specialist
from pipeline.release import history
from pipeline.release.publish import release
from pipeline.release.version import Version
from pipeline.spec.rules import Rule
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.ollama import Ollama


@pytest.fixture
def made(tmp_path: Path, ollama: Ollama) -> Specialist:
    found = specialist(tmp_path / "made", rows=20)
    release(found, ollama)
    return found


def ask(ollama: Ollama, made: Specialist, **more: Any) -> list[Answer]:
    where, limit = kept.folder(), asking.most(made)
    rows = list(made.data.each("test"))
    facts: tuple[Any, ...] = (rows, made.system, made.parameters, where)
    return asking.ask(ollama, "tiny", "tiny:v1", *facts, limit=limit, **more)


def test_every_held_out_turn_is_asked_once_and_kept(made, ollama, fake, monkeypatch):
    first = ask(ollama, made)
    assert len(first) == made.data.test
    assert {answer.text for answer in first} == {"ok"}
    assert all(answer.ends and not answer.empty for answer in first)
    monkeypatch.setattr(ollama, "answer", None)
    assert ask(ollama, made) == first


def test_what_was_answered_before_a_kill_is_not_asked_again(made, ollama, monkeypatch):
    first = ask(ollama, made)
    (file,) = kept.folder().glob("*.jsonl")
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(whole[0] + whole[1][: len(whole[1]) // 2])  # killed in the middle of a line
    asked = []
    answer = ollama.answer
    monkeypatch.setattr(ollama, "answer", lambda *given: (asked.append(1), answer(*given))[1])
    assert ask(ollama, made) == first
    assert len(asked) == len(first) - 1


def test_a_tag_that_moves_is_asked_anew(made, ollama, fake: FakeOllama, tmp_path):
    ask(ollama, made)
    release(specialist(tmp_path / "other", system="Be odd."), ollama)
    fake.answer = "yes"
    assert {answer.text for answer in ask(ollama, made)} == {"yes"}
    ollama.delete("tiny")
    with pytest.raises(Missing, match="Ollama has no tiny"):
        ask(ollama, made)


def test_answers_of_what_is_no_version_can_go(made, ollama):
    ask(ollama, made)
    assert kept.stale([history.known("tiny")]) == []
    assert len(kept.stale([])) == 1


def judged(
    texts: list[str], *rules: Rule, reference: str = "It is 12.50 €.", trained: str = ""
) -> Answered:
    answers = [
        Answer(f"row {i}", 1, "What does it cost?", (), reference, "tiny", text, "stop", 9)
        for i, text in enumerate(texts)
    ]
    rows = [{"messages": [{"role": "assistant", "content": trained}]}] if trained else []
    return answered(answers, rows, "", rules)


def says(found: Answered) -> dict[str, gate.Check]:
    version = Version(version=0, name="tiny", manifest="", ollama="")
    own = Measured("tiny", {str(i): 1.0 for i in range(5)}, 0, 0)
    base = Measured("the base", {str(i): 3.0 + i / 10 for i in range(5)}, 0, 0, "base")
    every = gate.checks(Evaluation(version, own, (base,), None, None, answers=found), gate.Bounds())
    return {check.name: check for check in every}


def test_an_empty_answer_stops_and_one_endless_one_does_not():
    assert says(judged(["Yes.", " "]))["answers end"].blocks
    good = judged(["Yes."] * 20)
    (one, *rest) = good.judged
    endless = [one.__class__(**{**vars(one), "loops": True}), *rest]
    assert not says(Answered("tiny", tuple(endless), ()))["answers end"].blocks
    assert says(Answered("tiny", (*endless, endless[0]), ()))["answers end"].blocks
    assert words.ended(good) == "All 20 answers end by themselves (at most 14% do not)"


def test_swapped_prices_are_invented_and_said():
    right = judged(["That is €12,50, please."] * 3)
    assert words.facts(right) == (
        "Exact facts: 3 of 3 of the right answers are given, none is invented"
    )
    wrong = judged(["That is 15.90 €."] * 3)
    told = says(wrong)["facts"]
    assert told.found == "open"
    assert told.sentence.startswith("Exact facts: 0 of 3 of the right answers are given; 3 of 3")
    assert "15.90" in told.sentence
    assert wrong.remarks["row 0"] == ("invented: 15.90", "lacks: 12.50")


def test_a_price_of_the_training_data_is_not_invented():
    assert not judged(["15.90 €"], trained="The other one is 15.90 €.").inventing


def test_a_rule_of_the_users_stops_beyond_its_share():
    rule = Rule(name="no-discounts", lacks=("discount",), max_broken=0.1)
    one = judged(["A discount!", *["No."] * 9], rule)
    assert not says(one)["rule no-discounts"].blocks
    two = says(judged(["A discount!", "Discount.", *["No."] * 8], rule))["rule no-discounts"]
    assert two.blocks
    assert two.sentence == (
        "2 of 10 answers break the rule no-discounts (6% to 51%; 10% may): contains “discount”"
    )


def test_a_pattern_that_takes_for_ever_is_what_has_to_be_mended():
    rule = Rule(name="words", pattern=r"^(a|aa)+$")
    found = says(judged(["a" * 60 + "!"] * 2, rule))["rule words"]
    assert found.blocks and found.next_step.startswith("Write the pattern of words otherwise")


def test_copies_of_one_row_are_told():
    text = "the quick brown fox jumps over the lazy dog and runs into the dark wood"
    told = says(judged([text, "No."], trained=f"Well, {text}."))["copying"]
    assert (told.found, told.blocks) == ("open", False)
    assert says(judged(["No."], trained=text))["copying"].found == "good"
