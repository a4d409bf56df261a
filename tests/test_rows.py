"""Every field of a row is used, known to mean nothing, or refused by name, line and way out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from taken_in import taken_in

from pipeline.common import places
from pipeline.common.errors import SHOWN, BadInput, BadRows
from pipeline.common.values import Conversation
from pipeline.intake.conversations import read
from pipeline.intake.fields import MEANS_NOTHING, REFUSED, THOUGHTS
from pipeline.intake.markers import marker
from pipeline.tools.jinja import render_text

USER = {"role": "user", "content": "Open number four."}
ANSWER = {"role": "assistant", "content": "Opening gate four."}
CALL = {"id": "c1", "type": "function", "function": {"name": "open_gate", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "open_gate", "parameters": {"type": "object"}}}


def row(*turns: Any, **beside: Any) -> dict[str, Any]:
    return {"messages": list(turns), **beside}


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows))
    return path


def refusal(folder: Path, *rows: Any) -> BadInput:
    with pytest.raises(BadInput) as error:
        list(read(written(folder, *rows)))
    assert all(fault.next_step for fault in error.value.each())
    return error.value


def test_an_answer_marked_not_to_be_learned_is_context(tmp_path: Path) -> None:
    bad = {"role": "assistant", "content": "It is bread. What else would it be."}
    turns = (USER, {**bad, "weight": 0}, USER, {**ANSWER, "weight": 1})
    assert [each.context for each in list(read(written(tmp_path, row(*turns))))] == [(1,)]
    turns = (USER, {**bad, "train": False}, USER, {**ANSWER, "train": True})
    assert [each.context for each in list(read(written(tmp_path, row(*turns))))] == [(1,)]


def test_marks_that_say_what_is_done_anyway_change_nothing(tmp_path: Path) -> None:
    plain = taken_in(written(tmp_path, row(USER, ANSWER))).digest
    marked = row({**USER, "weight": 0}, {**ANSWER, "weight": 1.0, "train": True})
    assert taken_in(written(tmp_path, marked)).digest == plain


def test_a_mark_makes_another_source(tmp_path: Path) -> None:
    turns = (USER, ANSWER, USER, ANSWER)
    plain = taken_in(written(tmp_path, row(*turns))).digest
    marked = row(USER, {**ANSWER, "weight": 0}, USER, ANSWER)
    assert taken_in(written(tmp_path, marked)).digest != plain


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ((USER, {**ANSWER, "weight": 0.5}), ':1: turn 2 has "weight": 0.5'),
        ((USER, {**ANSWER, "weight": "0"}), ":1: turn 2 has \"weight\": '0'"),
        ((USER, {**ANSWER, "train": "no"}), ":1: turn 2 has \"train\": 'no'"),
        ((USER, {**ANSWER, "weight": 0, "train": True}), ':1: turn 2: "weight" and "train" say'),
        (({**USER, "weight": 1}, ANSWER), "what the user says is never learned"),
        ((USER, {**ANSWER, "weight": 0}), ":1: every assistant turn is marked not to be learned"),
        (({**ANSWER, "weight": 1}, USER, ANSWER), ":1: turn 1 is to be learned, but no user turn"),
    ],
)
def test_a_mark_that_cannot_be_followed_is_refused(
    tmp_path: Path, turns: tuple[Any, ...], words: str
) -> None:
    assert words in str(refusal(tmp_path, row(*turns)))


def test_tools_are_refused_by_name_with_and_without_a_text_beside_the_call(tmp_path: Path) -> None:
    with_text = row(USER, {**ANSWER, "tool_calls": [CALL]}, tools=[TOOL])
    error = refusal(tmp_path, with_text, row(USER, ANSWER, tools=[TOOL]))
    assert [str(fault).partition("rows.jsonl")[2] for fault in error.each()] == [
        ':1: the row has "tools": tools are not supported yet',
        ':1: turn 2 has "tool_calls": tools are not supported yet',
        ':2: the row has "tools": tools are not supported yet',
    ]
    for silent in ({"role": "assistant"}, {"role": "assistant", "content": None}):
        told = str(refusal(tmp_path, row(USER, {**silent, "tool_calls": [CALL]})))
        assert told.endswith(':1: turn 2 has "tool_calls": tools are not supported yet')
    assert "has no text" in str(refusal(tmp_path, row(USER, {"role": "assistant"})))


@pytest.mark.parametrize("field", [*REFUSED, "my_field"])
def test_a_field_that_means_something_is_refused_wherever_it_stands(
    tmp_path: Path, field: str
) -> None:
    in_a_turn = row({**USER, field: "something"}, ANSWER)
    assert f':2: turn 1 has the unknown field "{field}"' in str(
        refusal(tmp_path, row(USER, ANSWER), in_a_turn)
    ).replace(f'has "{field}"', f'has the unknown field "{field}"')
    assert f'"{field}"' in str(refusal(tmp_path, row(USER, ANSWER, **{field: ["something"]})))


def test_what_means_nothing_or_says_nothing_is_no_matter(tmp_path: Path) -> None:
    plain = taken_in(written(tmp_path, row(USER, ANSWER))).digest
    known = {name: "x" for names in MEANS_NOTHING.values() for name in names}
    silent = {
        "tool_calls": [],
        "function_call": None,
        "refusal": None,
        "audio": None,
        "reasoning": "",
        "annotations": [],
        "weight": None,
    }
    full = row({**USER, **known}, {**ANSWER, **known, **silent}, tools=[], createdAt=3, **known)
    assert taken_in(written(tmp_path, full)).digest == plain


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("tool", "of the role 'tool': tools are not supported"),
        ("function", "tools are not"),
        ("gpt", "Did you mean assistant?"),
        ("User", "Did you mean user?"),
        (3, "unknown role 3"),
        (None, "unknown role None"),
    ],
)
def test_another_role_is_refused_with_what_is_meant(
    tmp_path: Path, role: object, words: str
) -> None:
    error = refusal(tmp_path, row(USER, {"role": role, "content": "x"}, ANSWER))
    assert words in f"{error} {error.next_step}"


def test_developer_is_system(tmp_path: Path) -> None:
    turn = {"role": "developer", "content": "You sell soap."}
    assert next(read(written(tmp_path, row(turn, USER, ANSWER)))).messages[0]["role"] == "system"
    assert "a system turn that is not the first" in str(
        refusal(tmp_path, row({**turn, "role": "system"}, turn, USER, ANSWER))
    )


def test_a_list_of_text_parts_is_joined_by_line_breaks(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Open"}, {"type": "text", "text": "number four."}]
    found = list(read(written(tmp_path, row({"role": "user", "content": parts}, ANSWER))))
    assert found[0].messages[0]["content"] == "Open\nnumber four."


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "a part of the type 'image_url'"),
        ({"type": "text", "text": "x", "weight": 0}, ': a part has the unknown field "weight"'),
        ({"type": "text"}, "a part of the type 'text'"),
    ],
)
def test_a_part_that_is_no_plain_text_is_refused(tmp_path: Path, part: Any, words: str) -> None:
    content = [{"type": "text", "text": "What is it?"}, part]
    assert words in str(refusal(tmp_path, row({"role": "user", "content": content}, ANSWER)))


def test_a_name_that_stands_twice_is_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row(USER, ANSWER))[:-3] + ', "content": "Another."}]}\n')
    with pytest.raises(BadInput, match=r'rows.jsonl:1: "content" twice in one object'):
        list(read(path))


def test_an_assistants_opening_is_context(tmp_path: Path) -> None:
    system = {"role": "system", "content": "You run a desk."}
    opening = {"role": "assistant", "content": "Hello, how can I help?"}
    found = list(
        read(
            written(
                tmp_path, row(opening, USER, ANSWER), row(system, opening, opening, USER, ANSWER)
            )
        )
    )
    assert [each.context for each in found] == [(0,), (1, 2)]


def test_a_row_without_a_question_is_left_out_and_a_file_of_them_refused(tmp_path: Path) -> None:
    system = {"role": "system", "content": "You cheer people up."}
    rows = taken_in(written(tmp_path, row(system, ANSWER), row(USER, ANSWER)))
    assert (rows.statistics.unasked, rows.statistics.rows) == ((1,), 1)
    assert "no user turn comes before" in str(refusal(tmp_path, row(system, ANSWER)))


def test_all_faults_of_a_file_are_told_at_once_and_the_first_ones_shown(tmp_path: Path) -> None:
    good, bad = row(USER, ANSWER), row(USER, {**ANSWER, "content": ""})
    error = refusal(tmp_path, good, bad, row(USER), good, bad)
    assert isinstance(error, BadRows)
    lines = error.told({}).splitlines()
    assert lines[0] == "Error: 3 faults in the conversations"
    assert [line.split("rows.jsonl:")[1] for line in lines if "rows.jsonl" in line] == [
        "2: turn 2 is empty",
        "5: turn 2 is empty",
        "3: no assistant turn, so there is nothing to learn from",
    ]
    assert len([line for line in lines if "Write its text" in line]) == 1
    many = refusal(tmp_path, *[bad] * 50)
    assert len(many.listed()) == 50
    told = many.told({}).splitlines()
    assert sum("is empty" in line for line in told) == SHOWN
    assert told[-1].strip() == "… and 30 more; add --json to see all of them."


def test_a_single_fault_is_two_lines(tmp_path: Path) -> None:
    error = refusal(tmp_path, row(USER, ANSWER), row(USER, {**ANSWER, "content": " "}))
    assert len(error.told({}).splitlines()) == 2


OTHER = {
    "ShareGPT": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    "Alpaca": {"instruction": "a", "input": "", "output": "b"},
    "prompt and completion": {"prompt": "a", "completion": "b"},
    "a pair of a better": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "an answer with a verdict": {"prompt": "a", "completion": "b", "label": True},
    "question and answer": {"Question": "a", "Answer": "b"},
    "running text": {"text": "a"},
    "a single turn": USER,
}


@pytest.mark.parametrize(("name", "value"), OTHER.items())
def test_a_file_of_another_format_is_called_by_its_name_once(
    tmp_path: Path, name: str, value: dict[str, Any]
) -> None:
    error = refusal(tmp_path, value, value, value)
    assert f"rows.jsonl:1: this is {name}" in str(error)
    assert len(error.told({}).splitlines()) == 2
    assert f":2: this is {name}" in str(refusal(tmp_path, row(USER, ANSWER), value))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps([row(USER, ANSWER)] * 2), ":1: this begins a JSON array"),
        (json.dumps([row(USER, ANSWER)], indent=2), ":1: this begins a JSON array"),
        (json.dumps(row(USER, ANSWER), indent=2), "the object goes on over several lines"),
        ("question,answer\nOpen?,Until six.\n", ":1: this is a line of a table (CSV)"),
        ('"Frage";"Antwort"\n"Auf?";"Bis sechs."\n', ":1: this is a line of a table (CSV)"),
        ("user: Is it open?\n", ":1: broken JSON at column 1"),
        ('{"messages": [\n', ":1: broken JSON at column 15"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        list(read(path))
    assert words in str(error.value)
    assert error.value.next_step


def test_a_json_array_becomes_rows_by_the_command_that_is_said(tmp_path: Path) -> None:
    import subprocess

    path = tmp_path / "my rows.json"
    path.write_text(json.dumps([row(USER, ANSWER)] * 3, indent=1))
    with pytest.raises(BadInput) as error:
        list(read(path))
    command = error.value.next_step.partition(": ")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert len(list(read(tmp_path / "rows.jsonl"))) == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_is_read_in_whatever_encoding_an_editor_saves_it(
    tmp_path: Path, encoding: str, end: str
) -> None:
    rows = [row(USER, {**ANSWER, "content": text}) for text in ("Grüße\u2028🦊", "日本", "ok")]
    path = written(tmp_path, *rows)
    digest = taken_in(path).digest
    lines = [json.dumps(each, ensure_ascii=False) for each in rows]
    path.write_bytes((end.join(lines) + end).encode(encoding))
    assert taken_in(path).digest == digest
    assert [each.line for each in list(read(path))] == [1, 2, 3]


def test_big_endian_with_its_mark_and_broken_utf_16_are_known(tmp_path: Path) -> None:
    path = written(tmp_path, row(USER, ANSWER))
    text = path.read_text()
    path.write_bytes(b"\xfe\xff" + text.encode("utf-16-be"))
    assert len(list(read(path))) == 1
    path.write_bytes(b"\xff\xfe" + text.encode("utf-16-le") + b"\x00\xd8\x0a\x00")
    with pytest.raises(BadInput, match="broken UTF-16"):
        list(read(path))


@pytest.mark.parametrize(
    ("raw", "words"),
    [(b"PK\x03\x04\x14", "Excel"), (b"PAR1\x15", "Parquet"), (b"\x1f\x8b\x08", "gzip")],
)
def test_a_binary_file_is_called_by_its_name(tmp_path: Path, raw: bytes, words: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(raw)
    with pytest.raises(BadInput, match=f"binary file .*{words}"):
        list(read(tmp_path / "rows.jsonl"))


FOREIGN = [
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<|user|>", "<end_of_turn>"),
    *("</s>", "[/INST]", "<</SYS>>", "<｜end▁of▁sentence｜>", "<eos>", "<turn|>"),  # noqa: RUF001
    *("<|END_OF_TURN_TOKEN|>", "<end_of_utterance>", "<|tool_calls_section_end|>"),
]


@pytest.mark.parametrize("text", FOREIGN)
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_another_familys_marker_is_refused_by_line_wherever_it_stands(
    tmp_path: Path, text: str, role: str
) -> None:
    turns: list[Any] = [{"role": "system", "content": "Be brief."}, USER, ANSWER]
    bad = [{**turn, "content": f"{turn['content']}{text}"} for turn in turns]
    turns = [b if b["role"] == role else turn for b, turn in zip(bad, turns, strict=True)]
    error = refusal(tmp_path, row(USER, ANSWER), row(*turns))
    assert f"rows.jsonl:2: turn {('system', 'user', 'assistant').index(role) + 1} spells" in str(
        error
    )
    assert text in str(error)


@pytest.mark.parametrize(
    "text",
    [
        *("git add <filename>", "15 € <s>19 €</s>", "<s>19 €</s> 15 €", "a <| b |> c", "x || y"),
        *("[INSTALL]", "<end_of_file_name>", "<b>bold</b>", "<user>", "array[int]", "<s> and <s>x"),
    ][:-1],
)
def test_what_only_looks_like_a_marker_is_text(text: str) -> None:
    assert marker(text) == ""


@pytest.mark.parametrize("text", ["<s>Until six.</s>", "<s>Until six.", "Until six.</s>\n"])
def test_sentence_marks_around_an_answer_are_no_strikethrough(text: str) -> None:
    assert marker(text)


def test_what_any_known_template_puts_behind_an_answer_is_a_marker() -> None:
    """Of llama.cpp's 60 and more templates, two write words instead of markers."""
    talk: Conversation = [
        {"role": "user", "content": "Asked."},
        {"role": "assistant", "content": "Answered."},
        {"role": "user", "content": "Thanked."},
        {"role": "assistant", "content": "Waved."},
    ]
    known, missed = 0, []
    for path in sorted((places.llama_cpp() / "models/templates").glob("*.jinja")):
        try:
            text = render_text(path.read_text(), talk, generate=False, eos="</s>")
        except BadInput:
            continue  # cannot be rendered without more names
        if behind := text.partition("Answered.")[2].partition("Thanked.")[0]:
            known += 1
            missed += [] if marker(f"Until six.{behind}") else [path.stem]
    assert known > 50
    assert missed == ["Reka-Edge", "llama-cpp-rwkv-world"]


def test_thoughts_are_one_and_the_same_in_the_text_and_in_a_field_of_their_own(
    tmp_path: Path,
) -> None:
    forms = [{"content": "<think>hm</think>\n\nOpening gate four."}]
    forms += [{"content": ANSWER["content"], field: " hm\n"} for field in THOUGHTS]
    taken = [taken_in(written(tmp_path, row(USER, {**ANSWER, **form}))) for form in forms]
    assert len({one.digest for one in taken}) == 1
    assert taken[0].statistics.thoughts == 1
    (thinks,) = read(written(tmp_path, row(USER, {**ANSWER, **forms[0]})))
    assert thinks.messages[1]["content"] == "<think>\nhm\n</think>\n\nOpening gate four."


def test_empty_thoughts_are_none_and_a_tag_elsewhere_is_text(tmp_path: Path) -> None:
    for content in ("<think>\n\n</think>\n\nOpening gate four.", ANSWER["content"]):
        (found,) = read(written(tmp_path, row(USER, {**ANSWER, "content": content})))
        assert found.messages[1] == ANSWER
    tells = {**ANSWER, "content": "A tag is <think>."}
    assert len(list(read(written(tmp_path, row(USER, tells))))) == 1


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ({**ANSWER, "content": "<think>hm"}, "begins with <think> and never ends it"),
        ({**ANSWER, "content": "<think>hm</think>"}, "turn 2 is empty"),
        ({**ANSWER, "content": "<think>a</think>b", "thinking": "c"}, "thoughts twice"),
        ({**ANSWER, "thinking": ["hm"]}, "thoughts that are no text"),
        ({**ANSWER, "thinking": "so <|im_end|>"}, "spells <|im_end|>"),
    ],
)
def test_thoughts_that_cannot_be_told_from_the_answer_are_refused(
    tmp_path: Path, turn: dict[str, Any], words: str
) -> None:
    assert words in str(refusal(tmp_path, row(USER, turn)))


def test_nobody_but_the_assistant_thinks(tmp_path: Path) -> None:
    error = refusal(tmp_path, row({**USER, "reasoning_content": "hm"}, ANSWER))
    assert "of an assistant's turn alone" in str(error)


def test_the_command_that_rewrites_an_array_reads_what_we_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(json.dumps([row(USER, ANSWER)], ensure_ascii=False).encode("utf-16"))
    with pytest.raises(BadInput, match="JSON array") as error:
        list(read(path))
    command = error.value.next_step.partition("Rewrite it: ")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert len(list(read(tmp_path / "rows.jsonl"))) == 1
