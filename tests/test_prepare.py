"""What `prepare` promises: trained ids are served ids, and only answers are learned."""

import json
from pathlib import Path

import pytest

from pipeline.artifacts import Base, Dataset
from pipeline.errors import BadInput
from pipeline.settings import Prepare
from pipeline.source import read_source
from pipeline.stage import Where
from pipeline.stages import prepare
from pipeline.stages.prepare import UNTRAINED
from pipeline.stages.preparing.split import PARTS, Split
from pipeline.template import render, trained_messages
from pipeline.tools import llamacpp
from pipeline.values import Conversation


def ask(*turns: str) -> Conversation:
    """user, assistant, user, … in turn."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]


def written(folder: Path, *rows: Conversation) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path


def prepared(
    folder: Path, base: Base, *rows: Conversation, system: str = "", **more: bool
) -> Dataset:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    settings = Prepare(system=system, skip_long=more.get("skip_long", False))
    return prepare.run(out, settings, base, read_source(written(folder, *rows))[0], where=Where())


def only(data: Dataset) -> dict:
    return data.part("train")[0]["sequences"][0]


def test_only_answers_and_their_end_of_turn_are_learned(
    tmp_path: Path, smallest_base: Base
) -> None:
    data = prepared(
        tmp_path, smallest_base, ask("Hello there", "Good day", "And now?", "Good night")
    )
    sequence = only(data)
    learned = [
        i
        for i, label in zip(sequence["ids"], sequence["labels"], strict=True)
        if label != UNTRAINED
    ]
    with llamacpp.Model(smallest_base.vocab) as model:
        wanted = [
            *model.tokenize("Good day", special=False),
            smallest_base.end_of_turn,
            *model.tokenize("Good night", special=False),
            smallest_base.end_of_turn,
        ]
    assert learned == wanted
    assert all(
        label in (UNTRAINED, token)
        for token, label in zip(sequence["ids"], sequence["labels"], strict=True)
    )


def test_the_ids_before_each_answer_are_what_a_server_tokenizes(
    tmp_path: Path, smallest_base: Base
) -> None:
    turns = ask("Hello  there\n", "\nGood day ", " And “now”?", "Good night 🙂")
    sequence = only(prepared(tmp_path, smallest_base, turns, system="Be kind."))
    served = trained_messages(turns, "Be kind.")
    with llamacpp.Model(smallest_base.vocab) as model:
        for turn in (2, 4):
            prompt = model.tokenize(
                render(smallest_base, served[:turn], generate=True), special=True, bos=True
            )
            assert sequence["ids"][: len(prompt)] == prompt
            assert sequence["labels"][len(prompt)] != UNTRAINED


def test_system_goes_to_rows_without_one_only(tmp_path: Path, smallest_base: Base) -> None:
    own: Conversation = [{"role": "system", "content": "Own."}, *ask("Hello", "Day")]
    without = prepared(tmp_path, smallest_base, own)
    with_system = prepared(tmp_path, smallest_base, own, system="Be kind.")
    assert without.digest == with_system.digest
    assert prepared(tmp_path, smallest_base, ask("Hello", "Day"), system="Be kind.").digest != (
        prepared(tmp_path, smallest_base, ask("Hello", "Day")).digest
    )


def parts_of(rows: list[Conversation]) -> list[str]:
    split = Split(rows)
    return [split.part(row) for row in rows]


def test_adding_rows_never_moves_old_ones() -> None:
    rows = [ask(f"Question {n}", f"Answer {n}") for n in range(500)]
    parts = parts_of(rows)
    assert parts[:100] == parts_of(rows[:100])
    counts = {part: parts.count(part) for part in PARTS}
    assert 30 <= counts["test"] <= 75
    assert 30 <= counts["validation"] <= 75


def test_another_answer_to_the_same_question_stays_in_the_same_part() -> None:
    rows = [ask(f"Q{n}", answer) for n in range(50) for answer in ("One", "Two")]
    parts = parts_of(rows)
    assert parts[::2] == parts[1::2]


def test_below_40_rows_nothing_is_held_back_for_validation(
    tmp_path: Path, smallest_base: Base
) -> None:
    data = prepared(tmp_path, smallest_base, *[ask(f"Question {n}", "Yes") for n in range(39)])
    assert data.validation == 0
    assert data.train + data.test == 39
    assert (
        prepared(tmp_path, smallest_base, *[ask(f"Q {n}", "Yes") for n in range(60)]).validation > 0
    )


def test_the_order_of_the_file_does_not_matter(tmp_path: Path, smallest_base: Base) -> None:
    rows = [ask(f"Question {n}", "Yes") for n in range(12)]
    there = prepared(tmp_path, smallest_base, *rows)
    back = prepared(tmp_path, smallest_base, *reversed(rows))
    assert there.digest == back.digest


def test_a_spelled_control_token_is_refused_by_line(tmp_path: Path, smallest_base: Base) -> None:
    with pytest.raises(BadInput) as error:
        prepared(
            tmp_path,
            smallest_base,
            ask("Hello", "Day"),
            ask(f"Hi {smallest_base.end_of_turn_text}", "Day"),
        )
    assert "rows.jsonl:2" in str(error.value)
    assert smallest_base.end_of_turn_text in str(error.value)


def test_a_row_longer_than_the_context_is_refused_or_skipped_by_name(
    tmp_path: Path, smallest_base: Base
) -> None:
    short = smallest_base.model_copy(update={"context": 64})
    rows = [ask("Hello", "Day"), ask("Hello " * 100, "Day")]
    with pytest.raises(BadInput, match=r"rows\.jsonl:2: \d+ tokens.* 64 at most"):
        prepared(tmp_path, short, *rows)
    said: list[str] = []
    out = tmp_path / "skipped"
    out.mkdir()
    data = prepare.run(
        out,
        Prepare(system="", skip_long=True),
        short,
        read_source(written(tmp_path, *rows))[0],
        where=Where(say=said.append),
    )
    assert data.rows == 1
    assert any("too long: 1 row, line 2" in line for line in said)


def test_a_template_that_rewrites_former_turns_gives_each_answer_its_own_sequence(
    tmp_path: Path, smallest_base: Base
) -> None:
    """As thinking templates do: what the last turn shows, earlier ones do not."""
    copy = tmp_path / "base"
    copy.mkdir()
    for file in smallest_base.path.iterdir():
        (copy / file.name).symlink_to(file)
    (copy / "chat_template.jinja").unlink()
    (copy / "chat_template.jinja").write_text(
        "{% for m in messages %}<|{{ m.role }}|>"
        "{% if m.role == 'assistant' and loop.last %}(thought)\n{% endif %}{{ m.content }}<|end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    thinking = smallest_base.model_copy(update={"path": copy})
    data = prepared(tmp_path, thinking, ask("One", "Two", "Three", "Four"))
    assert len(data.part("train")[0]["sequences"]) == 2


def test_a_control_token_in_system_is_refused(tmp_path: Path, smallest_base: Base) -> None:
    with pytest.raises(BadInput, match="SYSTEM of the Modelfile spells"):
        prepared(tmp_path, smallest_base, ask("Hello", "Day"), system="You <|end|> are")


def test_a_file_that_changes_in_between_is_not_filed_under_its_old_key(
    tmp_path: Path, smallest_base: Base
) -> None:
    path = written(tmp_path, ask("Hello", "Day"))
    before = read_source(path)[0]
    written(tmp_path, ask("Hello", "Day"), ask("Hi", "Night"))
    out = tmp_path / "out"
    out.mkdir()
    settings = Prepare(system="", skip_long=False)
    with pytest.raises(BadInput, match="changed while it was read"):
        prepare.run(out, settings, smallest_base, before, where=Where())
