"""What `prepare` promises: trained ids are served ids, and only answers are learned."""

import json
from pathlib import Path

import pytest
from taken_in import taken_in

from pipeline.bases.chat_template import render, trained_messages
from pipeline.common.errors import BadInput, BadRows
from pipeline.common.values import Conversation
from pipeline.intake.source import locate
from pipeline.made.artifacts import Base, Dataset
from pipeline.made.stage import Where
from pipeline.stages import intake, prepare
from pipeline.stages.preparing.segmenter import UNTRAINED
from pipeline.stages.settings import Intake, Prepare
from pipeline.tools import llamacpp


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
    return prepare.run(out, settings, base, taken_in(written(folder, *rows)), where=Where())


def only(data: Dataset) -> dict:
    return next(iter(data.each("train")))["sequences"][0]


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


@pytest.mark.parametrize(
    ("rows", "parts"), [(9, (9, 0, 0)), (40, (30, 0, 10)), (80, (50, 10, 20)), (208, (168, 20, 20))]
)
def test_the_parts_have_as_many_rows_as_is_said(
    tmp_path: Path, smallest_base: Base, rows: int, parts: tuple[int, int, int]
) -> None:
    data = prepared(tmp_path, smallest_base, *[ask(f"Question {n}", "Yes") for n in range(rows)])
    assert (data.train, data.validation, data.test) == parts


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
        taken_in(written(tmp_path, *rows)),
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
    assert len(next(iter(data.each("train")))["sequences"]) == 2


THOUGHT = "<think>\nLet me see.\n</think>\n\n"


@pytest.mark.parametrize(
    ("opens", "shows", "begins"),
    [
        ("", "{{ m.content }}", THOUGHT),
        ("<think>\n", "{{ m.content.split('</think>')[-1] | trim }}", "Let me see.\n</think>\n\n"),
        ("<think>", "{{ m.content.split('</think>')[-1] | trim }}", THOUGHT[len("<think>") :]),
    ],
    ids=["as the row has them", "opened by the prompt", "opened without a line break"],
)
def test_thoughts_are_learned_behind_the_prompt_and_are_not_in_the_next_one(
    tmp_path: Path, smallest_base: Base, opens: str, shows: str, begins: str
) -> None:
    """People send back what they saw; a template may also leave thoughts out by itself."""
    base = with_template(
        tmp_path,
        smallest_base,
        "{% for m in messages %}<|turn|>{{ m.role }}\n" + shows + "<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|turn|>assistant\n" + opens + "{% endif %}",
    )
    data = prepared(tmp_path, base, ask("One", THOUGHT + "Two", "Three", THOUGHT + "Four"))
    with llamacpp.Model(base.vocab) as model:

        def ids(text: str) -> list[int]:
            return model.tokenize(text, special=True)

        sequences = next(iter(data.each("train")))["sequences"]
        assert [learned(one) for one in sequences] == [
            ids(f"{begins}{word}<|end|>") for word in ("Two", "Four")
        ]
        assert not opens or sequences[0]["ids"] != sequences[1]["ids"]
        prompt = "<|turn|>user\nOne<|end|>\n<|turn|>assistant\nTwo<|end|>\n<|turn|>user\nThree"
        asked = ids(f"{prompt}<|end|>\n<|turn|>assistant\n{opens}")
        assert (
            sequences[1]["ids"][-len(learned(sequences[1])) - len(asked) :][: len(asked)] == asked
        )


def test_an_answer_that_a_conversation_shows_otherwise_is_learned_as_it_is_asked_for(
    tmp_path: Path, smallest_base: Base
) -> None:
    """Empty thoughts that only the prompt has, as in Gemma 4 and QwQ."""
    base = with_template(
        tmp_path,
        smallest_base,
        "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}\n<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|turn|>assistant\n<think>\n</think>{% endif %}",
    )
    with llamacpp.Model(base.vocab) as model:
        sequence = only(prepared(tmp_path, base, ask("One", "Two")))
        assert learned(sequence) == model.tokenize("Two\n<|end|>", special=True)


def test_a_control_token_in_system_is_refused(tmp_path: Path, smallest_base: Base) -> None:
    with pytest.raises(BadInput, match="SYSTEM of the Modelfile spells"):
        prepared(tmp_path, smallest_base, ask("Hello", "Day"), system="You <|end|> are")


def test_a_file_that_changes_in_between_is_not_filed_under_its_old_key(tmp_path: Path) -> None:
    path = written(tmp_path, ask("Hello", "Day"))
    before = locate(path)
    written(tmp_path, ask("Hello", "Day"), ask("Hi", "Night"))
    with pytest.raises(BadInput, match="changed while it was read"):
        intake.run(tmp_path, Intake(), before, where=Where())


def run_on(folder: Path, base: Base, *rows: dict, system: str = "") -> tuple[Dataset, list[str]]:
    """Rows as they stand in a file, and what was said of them."""
    path, out = folder / "rows.jsonl", folder / "out"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out.mkdir(exist_ok=True)
    said: list[str] = []
    settings = Prepare(system=system, skip_long=False)
    data = prepare.run(out, settings, base, taken_in(path), where=Where(say=said.append))
    return data, said


def learned(sequence: dict) -> list[int]:
    return [label for label in sequence["labels"] if label != UNTRAINED]


def with_template(folder: Path, base: Base, template: str) -> Base:
    copy = folder / "base"
    copy.mkdir()
    for file in base.path.iterdir():
        if file.name != "chat_template.jinja":
            (copy / file.name).symlink_to(file)
    (copy / "chat_template.jinja").write_text(template)
    return base.model_copy(update={"path": copy})


STRICT = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/…') }}{% endif %}"
    "{{ '<|turn|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn|>assistant\n' }}{% endif %}"
)


def test_rows_without_marks_are_prepared_as_they_always_were(
    tmp_path: Path, smallest_base: Base
) -> None:
    """Golden: what was trained is not trained again for nothing. The parts are prepare 3's."""
    own: Conversation = [
        {"role": "system", "content": "Own."},
        *ask("Hi", "Yes", "And?", "No", "Thanks"),
    ]
    rows = [ask(f"Question {n}", f"Answer {n}") for n in range(45)]
    rows += [own, ask("Grüße\r\n  x", "  “Ja” 🙂\n")]
    data = prepared(tmp_path, smallest_base, *rows, system="Be kind.")
    source = taken_in(tmp_path / "rows.jsonl")
    assert source.digest == "b676a64fc4a7c2bec1abcb976bbdc55a813cfdf5326af9fbaf7208712f0c0c6c"
    assert data.digest == "b5ff3bb20edf7b2e5880780332a967718d54e8ffefd102e77dc43495fa73f1a5"
    (tmp_path / "shipped").mkdir()
    path = Path(__file__).parent.parent / "data/brand-voice.jsonl"
    shipped = taken_in(path, tmp_path / "shipped")
    assert shipped.digest == "ddf67092106ee3d8ae2b9c17fb4433310631c86c5dccd234376e306d7e18c8cd"


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}])
def test_an_answer_that_is_not_to_be_learned_is_read_as_a_server_reads_it(
    tmp_path: Path, smallest_base: Base, mark: dict
) -> None:
    turns: list[dict] = [*ask("Fresh?", "It is bread.", "Kinder.", "Out of the oven.", "Thanks")]
    plain = only(prepared(tmp_path, smallest_base, turns, system="Be kind."))
    turns[1] = {**turns[1], **mark}
    data, said = run_on(tmp_path, smallest_base, {"messages": turns}, system="Be kind.")
    (row,) = list(data.each("train"))
    (sequence,) = row["sequences"]
    assert sequence["ids"] == plain["ids"]
    with llamacpp.Model(smallest_base.vocab) as model:
        answer = model.tokenize("Out of the oven.", special=False)
    assert learned(sequence) == [*answer, smallest_base.end_of_turn]
    assert row["context"] == [1]
    assert list(data.answers()) == ["Out of the oven."]
    assert all(set(message) == {"role", "content"} for message in row["messages"])
    assert "the last user turn, which nobody answers, is left out in 1 row" in said


def test_a_last_answer_that_is_not_to_be_learned_ends_the_sequence_before_it(
    tmp_path: Path, smallest_base: Base
) -> None:
    turns: list[dict] = [*ask("Fresh?", "Warm at heart.", "Really?", "Who knows.")]
    turns[3]["weight"] = 0
    data, _ = run_on(tmp_path, smallest_base, {"messages": turns})
    assert only(data)["ids"][-1] == smallest_base.end_of_turn
    assert len(learned(only(data))) == len("Warm at heart.") + 1


def test_an_assistants_opening_is_read_and_not_learned(tmp_path: Path, smallest_base: Base) -> None:
    opening = {"role": "assistant", "content": "Hello, this is the desk."}
    data, said = run_on(
        tmp_path,
        smallest_base,
        {"messages": [{"role": "system", "content": "You cheer people up."}, opening]},
        {"messages": [opening, *ask("A key is missing.", "Which room?")]},
    )
    assert len(learned(only(data))) == len("Which room?") + 1
    assert "left out, because no user asks before the assistant speaks: 1 row, line 1" in said


def test_what_a_template_refuses_is_told_with_its_line_and_why(
    tmp_path: Path, smallest_base: Base
) -> None:
    strict = with_template(tmp_path, smallest_base, STRICT)
    twice = [{"role": "user", "content": "hi"}, *ask("my router blinks", "Is the cable in?")]
    opened = [{"role": "assistant", "content": "Hello."}, *ask("Hi", "Day")]
    with pytest.raises(BadRows) as error:
        prepared(tmp_path, strict, ask("Hello", "Day"), twice, opened)
    second, third = error.value.each()
    assert "rows.jsonl:2: " in str(second) and "must alternate" in str(second)
    assert "join those of one speaker" in second.next_step
    assert "rows.jsonl:3: " in str(third)
    assert "remove the assistant's opening" in third.next_step


def test_all_rows_that_the_base_cannot_take_are_told_at_once(
    tmp_path: Path, smallest_base: Base
) -> None:
    short = smallest_base.model_copy(update={"context": 64})
    rows = [ask("Hi", "Day"), ask("Hi <s>", "Day"), ask("Hello " * 100, "Day"), ask("<s>", "x <s>")]
    rows[3][0]["content"] = "and <s> again"
    with pytest.raises(BadRows) as error:
        prepared(tmp_path, short, *rows)
    assert [str(fault).partition("rows.jsonl")[2][:27] for fault in error.value.each()] == [
        ":2: turn 1 spells the contr",
        ":3: 624 tokens, and smalles",
        ":4: turn 1 spells the contr",
        ":4: turn 2 spells the contr",
    ]


def test_a_control_token_that_no_template_writes_is_learned_as_the_letters_users_see(
    tmp_path: Path, smallest_base: Base
) -> None:
    """As <filename> in SmolLM2: an answer shows letters, a prompt is read with control tokens."""
    turns = ask("What is <unk>?", "Run: add <unk>", "And then?", "Done.")
    data, said = run_on(tmp_path, smallest_base, {"messages": turns})
    first, second = next(iter(data.each("train")))["sequences"]
    with llamacpp.Model(smallest_base.vocab) as model:
        letters = model.tokenize("Run: add <unk>", special=False)
        assert learned(first) == [*letters, smallest_base.end_of_turn]
        for sequence, until in ((first, 1), (second, 3)):
            text = render(smallest_base, turns[:until], generate=True)
            prompt = model.tokenize(text, special=True, bos=True)
            assert sequence["ids"][: len(prompt)] == prompt
            assert len(sequence["ids"]) == len(prompt) + len(learned(sequence))
    assert [line for line in said if line.startswith("<unk> is a control token")] == [
        "<unk> is a control token of smallest: text in answers, one token in prompts, in training"
        " as in serving (1 row, line 1); [unk] is text in both"
    ]


def test_rows_that_need_nfc_are_one_note(tmp_path: Path, smallest_base: Base) -> None:
    nfc = smallest_base.model_copy(update={"nfc": True})
    rows = [{"messages": ask(f"Cafe\u0301 {n}?", "Day")} for n in range(60)]
    data, said = run_on(tmp_path, nfc, *rows)
    notes = [line for line in said if "NFC" in line]
    assert len(notes) == 1
    assert "60 rows, lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 …" in notes[0]
    assert "é" in next(iter(data.each("train")))["messages"][0]["content"]


def test_rows_that_all_ask_the_same_are_split_within_the_question(
    tmp_path: Path, smallest_base: Base
) -> None:
    rows = [ask("Write the answer to this ticket.", f"Done, ticket {n}.") for n in range(12)]
    data, said = run_on(tmp_path, smallest_base, *[{"messages": row} for row in rows])
    assert data.train >= 8
    assert any(line.startswith(f"{data.train} rows to train on, 0 to choose") for line in said)
    assert any("12 rows that ask the same or are nearly the same" in line for line in said)
