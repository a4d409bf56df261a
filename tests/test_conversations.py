"""A data file is read as a whole or refused by file and line."""

import json
from pathlib import Path

import pytest
from taken_in import taken_in

from pipeline.common.errors import BadInput
from pipeline.intake.conversations import read

GOOD = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Day"}]}'


def turns(*pairs: tuple[str, object]) -> str:
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in pairs]})


WRONG = {
    "broken JSON": (f"{GOOD}\n{GOOD[:-1]}", ":2: broken JSON at column"),
    "not an object": (f"{GOOD}\n[]", ':2: no list under "messages"'),
    "no messages": (f"{GOOD}\n\n{{}}", ':3: no list under "messages"'),
    "unknown role": (turns(("user", "a"), ("bot", "b")), ":1: turn 2 has the unknown role 'bot'"),
    "no answer": (turns(("user", "a")), ":1: no assistant turn"),
    "empty turn": (turns(("user", " "), ("assistant", "b")), ":1: turn 1 is empty"),
    "a list": (turns(("user", ["a"]), ("assistant", "b")), ":1: turn 1 has no text"),
    "late system": (turns(("user", "a"), ("system", "s"), ("assistant", "b")), ":1: a system turn"),
    "nothing asked": (turns(("assistant", "b")), ":1: no user turn comes before"),
    "two answers": (
        turns(("user", "a"), ("assistant", "b"), ("assistant", "c")),
        ":1: turn 3 answers no user turn",
    ),
    "half a pair": (turns(("user", "\ud800"), ("assistant", "b")), ":1: turn 1 holds half"),
    "a turn that is a text": ('{"messages": ["Hi"]}', ":1: turn 1 is not an object"),
    "nested": ('{"messages": ' + "[" * 100_000, ":1: "),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_line_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        list(read(path))
    assert str(error.value).startswith(f"{path}{words}")
    assert error.value.next_step


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"PK\x03\x04\0\0", "is a binary file"),
        (GOOD.encode() + b"\n" + GOOD.encode().replace(b"Hi", b"\xff"), ":2: byte "),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, raw: bytes, words: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(raw)
    with pytest.raises(BadInput) as error:
        list(read(path))
    assert words in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        list(read(tmp_path / "none.jsonl"))
    with pytest.raises(BadInput, match="is a folder"):
        list(read(tmp_path))


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n" + GOOD.encode())
    assert [row.line for row in list(read(path))] == [1, 2]


def test_white_space_and_order_do_not_make_another_source(tmp_path: Path) -> None:
    other = GOOD.replace("Hi", "Ho")
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text(f"{GOOD}\n{other}\n")
    two.write_text(f"\n{other}\n{GOOD.replace(', ', ',')}\n")
    assert taken_in(one).digest == taken_in(two).digest
    two.write_text(f"{other}\n{GOOD.replace('Day', 'Night')}\n")
    assert taken_in(one).digest != taken_in(two).digest


def test_a_number_of_thousands_of_digits_is_an_error_with_its_line(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"messages": [], "n": ' + "9" * 5000 + "}\n")
    with pytest.raises(BadInput, match=r"rows.jsonl:1: .*a number too long"):
        list(read(tmp_path / "rows.jsonl"))
