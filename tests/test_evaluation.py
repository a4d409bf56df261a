"""A specialist against its base on held-out rows: the right numbers, in words that hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from engines import InProcess
from made import specialist

from pipeline.bases.reference import resolve
from pipeline.cli.commands import main
from pipeline.cli.evaluating import text, value
from pipeline.common.errors import BadInput
from pipeline.common.values import digest_of
from pipeline.evaluation import rivals
from pipeline.evaluation.compare import Measured, compare, measured
from pipeline.evaluation.memory import drift as drift_of
from pipeline.evaluation.memory import memory
from pipeline.evaluation.words import drifted, remembered, sentence
from pipeline.made.artifacts import Specialist
from pipeline.made.stage import Where
from pipeline.release import made_of
from pipeline.release.version import Version
from pipeline.stages import bare, drift, score
from pipeline.stages.preparing.tokens import Tokens
from pipeline.stages.scoring import examples, general
from pipeline.stages.settings import Bare, Recall, Score
from pipeline.tools import smallest
from pipeline.tools.llamacpp import Model
from pipeline.tools.teacher import ASKED, surprisal, teacher


def model(name: str, losses: list[float]) -> Measured:
    return Measured(name, {f"row {i}": loss for i, loss in enumerate(losses)}, 0.0, 0.0)


def said(specialist_: list[float], rival: list[float]) -> str:
    return sentence(compare(model("tiny:v1", specialist_), model("the base", rival)))


# words


def test_better_is_said_with_rows_interval_and_a_plain_face():
    found = said([3.0, 3.1, 2.9, 3.0, 3.2, 3.0], [4.4, 4.5, 4.2, 4.5, 4.6, 4.3])
    assert found == (
        "Better than the base on 6 of 6 rows: 1.38 nats per token less (1.30 to 1.46), so a right"
        " answer is 4.0 times likelier per token"
    )


def test_worse_is_said_as_plainly():
    found = said([4.4, 4.5, 4.2, 4.5, 4.6, 4.3], [3.0, 3.1, 2.9, 3.0, 3.2, 3.0])
    assert found.startswith("Worse than the base on 6 of 6 rows: 1.38 nats per token more (1.30 to")
    assert found.endswith("times less likely per token")


def test_a_small_difference_is_told_in_per_cent():
    rows = [3.0, 3.1, 2.9, 3.0, 3.2, 3.0]
    more = [loss + 0.1 + 0.001 * i for i, loss in enumerate(rows)]
    assert said(rows, more).endswith("so a right answer is 11% likelier per token")
    assert said(more, rows).endswith("so a right answer is 10% less likely per token")


def test_what_rows_do_not_show_is_said_with_how_many_would():
    found = said([3.0, 3.2, 2.9, 3.1, 3.0], [3.1, 3.0, 3.1, 3.0, 3.1])
    assert found.startswith("Not to be told from the base by these rows: the difference is -0.02")
    assert "(-0.22 to +0.18); about 532 rows would show one of that size" in found
    assert said([3.0] * 5, [3.0] * 5) == "Equal to the base on all 5 rows"


def test_too_few_rows_give_no_interval():
    assert said([3.0, 3.0], [4.0, 4.0]) == (
        "Too few rows to compare with the base: better on 2 of 2 rows; 3 more would do"
    )


def test_a_row_that_makes_most_of_the_difference_is_told():
    found = said([3.0] * 20, [3.3] * 19 + [8.0])
    assert found.startswith("Better than the base on 20 of 20 rows")
    assert found.endswith("; one row makes 47% of the difference")


def test_only_rows_of_both_are_compared():
    one = Measured("a", {"x": 1.0, "y": 2.0}, 0, 0)
    found = compare(one, Measured("b", {"y": 3.0, "z": 9.0}, 0, 0))
    assert (found.rows, found.better, found.less) == (1, 1, 1.0)
    with pytest.raises(ValueError, match="no row"):
        compare(one, Measured("b", {"z": 1.0}, 0, 0))


def test_a_row_counts_once_however_long_and_ends_are_told_apart():
    lines = [
        {"row": "a", "body": 10.0, "words": 9, "end": 0.0, "ends": 1},
        {"row": "b", "body": 3.0, "words": 1, "end": 1.0, "ends": 1},
    ]
    found = measured("x", lines)
    assert found.rows == {"a": 1.0, "b": 2.0}
    assert (found.loss, found.words, found.ends) == (1.5, 1.3, 0.5)


# likelihood


@pytest.fixture
def tiny(tmp_path: Path) -> Specialist:
    return specialist(tmp_path / "made", rows=20)


def test_each_token_is_as_likely_as_when_the_whole_text_is_evaluated(tiny: Specialist) -> None:
    rows = [row["sequences"][0] for row in tiny.data.each("train")]
    texts = [row["ids"] for row in rows]
    long = [*texts[0], *texts[1][1:], *texts[2][1:]]  # more is asked than is kept at once
    asked = [[label != -100 for label in row["labels"]] for row in rows]
    texts, asked = [*texts, long, texts[0]], [*asked, [False, *[True] * (len(long) - 1)], asked[0]]
    assert sum(asked[-2]) > 2 * ASKED
    with (
        Model(tiny.packed.served.path, weights=True) as opened,
        teacher(opened, len(long), 2) as reader,
    ):
        for ids, wanted in zip(texts, asked, strict=True):
            whole = [
                surprisal(row, ids[i]) for i, row in enumerate(opened.each_logits(ids, 1, 2), 1)
            ]
            right = [nats for nats, want in zip(whole, wanted[1:], strict=True) if want]
            assert reader.surprisals(ids, wanted) == pytest.approx(right, abs=1e-4)
        assert reader.surprisals(long, [False] * len(long)) == []
        with pytest.raises(ValueError, match="first token"):
            reader.surprisals(long, [True] * len(long))


def scored(out: Path, made: Specialist, asked: Score, file: Path) -> Measured:
    out.mkdir()
    model_ = rivals.Scored(digest="x", path=file)
    scores = score.run(out, asked, made.base, made.data, model_, where=Where(threads=2))
    return measured("x", list(scores.each()))


def test_who_says_what_is_right_loses_less(tiny: Specialist, tmp_path: Path) -> None:
    smallest.write(tmp_path / "no.gguf", "no")
    right = scored(tmp_path / "1", tiny, Score(), tiny.packed.served.path)
    wrong = scored(tmp_path / "2", tiny, Score(), tmp_path / "no.gguf")
    assert right.rows.keys() == wrong.rows.keys()
    assert len(right.rows) == tiny.data.test
    assert right.loss < 0.1 < 5 < wrong.loss
    assert right.ends < 0.1


def test_examples_differ_and_fit_and_the_answer_behind_them_is_asked_alone(
    tmp_path: Path,
) -> None:
    made = specialist(tmp_path / "made", rows=20)
    smallest.write(made.base.vocab)
    with Tokens(made.base, by_pieces=False) as tokens:
        shown = examples.chosen(made.base, made.data, 3, 1000, tokens)
        assert [turn["role"] for turn in shown] == ["user", "assistant"] * 3
        assert len({turn["content"] for turn in shown[::2]}) == 3
        assert examples.chosen(made.base, made.data, 3, 5, tokens) == []
        row = next(made.data.each("test"))
        (one,) = examples.behind(made.base, row, shown, "", tokens)
    (start, stop), plain = one.answers[0], row["sequences"][0]
    assert len(one.answers) == 1
    trained = [label for label in plain["labels"] if label != -100]
    assert one.ids[start:stop] == trained
    asked = Score(examples=3, room=1000)
    assert scored(tmp_path / "1", made, asked, made.packed.served.path).loss < 0.1


def test_a_row_that_would_not_fit_behind_examples_is_not_cut(tmp_path: Path) -> None:
    made = specialist(tmp_path / "made", rows=20)
    smallest.write(made.base.vocab)
    short = made.model_copy(update={"base": made.base.model_copy(update={"context": 200})})
    with pytest.raises(BadInput, match=r"a row behind examples has .* the base reads 200"):
        scored(tmp_path / "1", short, Score(examples=8, room=1000), made.packed.served.path)


def test_a_base_of_a_directory_is_stored_as_it_is(tiny_base, tmp_path):
    from pipeline.stages.packing.weights import opened
    from pipeline.tools.gguf_layout import layout

    made = bare.run(tmp_path, Bare(quantization="F32"), tiny_base, where=Where(threads=2))
    found = layout(made.served.path)
    place = found.tensors["blk.0.ffn_up.weight"]
    with opened(tiny_base.weights) as weights:
        bits = weights.bits("model.layers.0.mlp.up_proj.weight", 0, 1)
    import numpy as np

    stored = np.frombuffer(found.read(place), np.float32)[: len(bits)]
    assert (stored == (bits.astype(np.uint32) << 16).view(np.float32)).all()


# the whole


@pytest.fixture
def world(tiny: Specialist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Version:
    """A version whose base says something else."""
    smallest.write(tiny.base.vocab)
    smallest.write(tmp_path / "base.gguf", "no")
    base = resolve(str(tmp_path / "base.gguf"), tmp_path)
    monkeypatch.setattr(made_of, "specialist", lambda version, store: tiny)
    return Version(
        name="tiny",
        version=1,
        manifest="m",
        ollama="",
        origin=str(tmp_path / "base.gguf"),
        origin_digest=base.digest,
    )


def test_a_version_is_compared_with_its_base_and_with_examples(world: Version) -> None:
    made = rivals.evaluate(world, InProcess(), [Path("/")])
    assert [one.name for one in made.rivals] == ["the base", "the base with 8 examples"]
    assert {one.verdict for one in made.comparisons} == {"open"}  # four rows
    told = text(made)
    assert told.startswith("tiny:v1 on 4 rows that it was not trained on")
    assert "Too few rows to compare with the base: better on 4 of 4 rows; 1 more would do" in told
    assert json.loads(json.dumps(value(made)))["comparisons"][0]["better"] == 4


def test_a_base_that_has_gone_is_told_and_the_rest_is_measured(
    world: Version, tmp_path: Path
) -> None:
    (tmp_path / "base.gguf").unlink()
    lines: list[str] = []
    made = rivals.evaluate(world, InProcess(), [Path("/")], lines.append)
    assert (made.rivals, made.specialist.loss < 0.1) == ((), True)
    assert lines[-1].startswith("the base is not measured: ")


def test_another_version_is_compared_on_rows_that_both_held_back(
    world: Version, tiny: Specialist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = specialist(tmp_path / "other", rows=22, says="ko")  # two more rows: two in both parts
    some = {1: tiny, 2: other.model_copy(update={"base": tiny.base})}
    monkeypatch.setattr(made_of, "specialist", lambda version, store: some[version.version])
    second = world.model_copy(update={"version": 2})
    made = rivals.evaluate(world, InProcess(), [Path("/")], against=[second])
    (found,) = [each for each in made.comparisons if each.rival == "tiny:v2"]
    assert (found.rows, found.better) == (2, 2)
    far = specialist(tmp_path / "far", rows=60).model_copy(update={"base": tiny.base})
    some[2] = far
    with pytest.raises(BadInput, match="no row was held back by both tiny:v1 and tiny:v2"):
        rivals.evaluate(world, InProcess(), [Path("/")], against=[second])
    some[2] = other.model_copy(update={"base": tiny.base.model_copy(update={"digest": "other"})})
    with pytest.raises(BadInput, match="tiny:v2 has another base"):
        rivals.evaluate(world, InProcess(), [Path("/")], against=[second])


def test_nothing_is_scored_twice(world: Version) -> None:
    ran: list[str] = []

    class Counted(InProcess):
        def run(self, stage: Any, job: Any) -> None:
            ran.append(stage.name)
            super().run(stage, job)

    for _ in range(2):
        rivals.evaluate(world, Counted(), [Path("/")])
    assert ran == ["score"] * 3 + ["recall"] * 2 + ["drift"]


def test_a_version_that_held_nothing_back_cannot_be_evaluated(
    world: Version, tiny: Specialist, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = tiny.model_copy(update={"data": tiny.data.model_copy(update={"test": 0})})
    monkeypatch.setattr(made_of, "specialist", lambda version, store: none)
    with pytest.raises(BadInput, match="held back no row"):
        rivals.evaluate(world, InProcess(), [Path("/")])


def items(margins: list[float]) -> list[dict[str, Any]]:
    return [
        {"question": str(i), "kind": "fact", "language": "es" if i % 2 else "en", "margin": margin}
        for i, margin in enumerate(margins)
    ]


def test_forgetting_is_told_when_it_is_shown() -> None:
    found = memory(items([1.0] * 60 + [-1.0] * 20), items([1.0] * 45 + [-1.0] * 35))
    assert (found.questions, found.base, found.specialist, found.kept) == (80, 60, 45, 45)
    assert found.languages == {"en": (40, 30, 23), "es": (40, 30, 22)}
    told = remembered(found, "tiny:v1")
    assert "the base has 60 of 80 right, tiny:v1 45; of the base's it keeps 45" in told
    assert "(en 30 → 23, es 30 → 22; -19 points, -27 to -9): it forgot." in told
    same = memory(items([1.0] * 60 + [-1.0] * 20), items([2.0] * 58 + [-1.0] * 20 + [1.0] * 2))
    assert remembered(same, "x").endswith("no forgetting is shown")


def drifted_to(out: Path, made: Specialist, file: Path) -> list[dict[str, Any]]:
    out.mkdir()
    own, other = (rivals.Scored(digest="x", path=path) for path in (made.packed.served.path, file))
    asked = Recall(system="Be brief.")
    found = drift.run(out, asked, made.base, own, other, where=Where(threads=2))
    assert [path.name for path in out.iterdir()] == ["answers.jsonl"]
    return list(found.each())


def test_a_model_does_not_drift_from_itself_and_one_that_says_else_does(
    tiny: Specialist, tmp_path: Path
) -> None:
    smallest.write(tiny.base.vocab)
    smallest.write(tmp_path / "no.gguf", "no")
    same = drifted_to(tmp_path / "1", tiny, tiny.packed.served.path)
    assert len(same) == 60
    assert {line["tokens"] for line in same} == {len("ok") + 1}
    assert drift_of(same).same == 1.0
    assert abs(drift_of(same).kl.value) < 0.01
    assert not drift_of(same).far
    other = drift_of(drifted_to(tmp_path / "2", tiny, tmp_path / "no.gguf"))
    assert (other.same, other.far) == (1 / 3, True)  # both end there
    assert other.kl.low > 3
    assert "goes on as the base would at 33% of the words" in drifted(other, "tiny:v1")
    assert "its voice runs into everything" in drifted(other, "tiny:v1")


def test_the_questions_are_half_english_half_spanish_and_no_answer_stands_twice() -> None:
    every = general.items()
    assert len(every) == len({item.question for item in every}) == 160
    assert sum(item.language == "es" for item in every) == 80
    for item in every:
        assert len(set(item.answers)) == len(item.answers) == (4 if item.kind == "fact" else 2)
        assert item.question.endswith("?")


@pytest.mark.parametrize("arguments", [["nobody"], ["nobody", "v3"], ["no/name:x"]])
def test_a_specialist_that_there_is_not_is_two_lines(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, ["evaluate", *arguments])
    assert done.exit_code == 1
    assert "Error: " in done.output and len(done.output.strip().splitlines()) == 2


def test_rows_are_known_by_what_they_say() -> None:
    row = {"messages": [{"role": "user", "content": "x"}]}
    assert score.named(row) == digest_of(row["messages"])[:16]
