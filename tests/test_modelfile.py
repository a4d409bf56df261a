"""A Modelfile is one value with several faces: read, checked, written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.common.errors import BadInput
from pipeline.spec.modelfile import Modelfile, context_length, lossy, parse, read, render, starter
from pipeline.spec.parameters import check_answers

SHIPPED = '''\
# A comment, and a blank line.

from embedded:smollm2-135m-instruct
System """You write for Northbound Supply:
plain, "warm", a little dry."""
PARAMETER temperature 0.3
parameter   stop   "END"
PARAMETER stop "two
lines"
PARAMETER num_ctx 4096
PARAMETER use_mmap false
LICENSE MIT
'''


def refusal(text: str) -> BadInput:
    with pytest.raises(BadInput) as caught:
        parse(text, "m.Modelfile")
    return caught.value


def test_parameters_that_would_cut_trained_answers_are_refused_before_they_are_trained() -> None:
    answers = ["One lamp. END", "Two."]
    check_answers({"num_predict": 9, "stop": ["###"]}, 9, lambda: answers)
    check_answers({"num_predict": -1}, 9, lambda: answers)
    with pytest.raises(BadInput, match=r"num_predict 8 would cut answers off: .* has 9 tokens"):
        check_answers({"num_predict": 8}, 9, lambda: answers)
    with pytest.raises(BadInput, match="stop END would cut answers off: the data has 'One lamp"):
        check_answers({"stop": ["###", "END"]}, 9, lambda: answers)


def test_it_reads_what_ollama_reads() -> None:
    found = parse(SHIPPED, "m.Modelfile")
    assert found.base == "embedded:smollm2-135m-instruct"
    assert found.system == 'You write for Northbound Supply:\nplain, "warm", a little dry.'
    assert found.parameters == {
        "temperature": 0.3,
        "stop": ["END", "two\nlines"],
        "num_ctx": 4096,
        "use_mmap": False,
    }
    assert found.license == "MIT"


def test_it_knows_where_each_command_stands() -> None:
    found = parse(SHIPPED, "m.Modelfile")
    assert found.at("FROM") == "m.Modelfile:3"
    assert found.at("SYSTEM") == "m.Modelfile:4"
    assert found.at("num_ctx") == "m.Modelfile:10"
    assert found.at("seed") == "m.Modelfile"


def test_where_it_stands_is_no_part_of_what_it_says() -> None:
    assert parse("FROM a", "x") == parse("# first\n\nFROM a\n", "y")
    assert parse("FROM a", "x") != parse("FROM b", "x")


TEXTS = [
    "plain words",
    " blanks around ",
    'a "quoted" word',
    '"all of it"',
    'ends with "quotes"',
    'ends with "quotes"\nand goes on',
    "two\nlines\n\n",
    "windows\r\nlines\r\n",
    "# no comment",
    "FROM nowhere\nFROM elsewhere",
    'three """ quotes in a line',
    "tab\tand emoji 🦊\u200d🔥",
    '"',
    '""',
    "trailing \\",
]


@pytest.mark.parametrize("text", TEXTS)
def test_printed_and_parsed_again_it_is_the_same(text: str) -> None:
    value = Modelfile(
        base="./my model.gguf",
        system=text,
        parameters={
            "stop": [text, "x"],
            "temperature": 0.0,
            "seed": -1,
            "top_p": 1e-05,
            "use_mmap": True,
        },
        license=text,
    )
    assert parse(render(value), "x") == value


def test_a_value_of_several_lines_ends_where_ollama_ends_it() -> None:
    assert parse('FROM a\nSYSTEM "x "y"\nLICENSE b', "m").system == 'x "y'
    assert parse('FROM a\nSYSTEM """x"""  \r\nLICENSE b', "m").license == "b"
    assert parse("FROM a\rSYSTEM b", "m").system == "b"


@pytest.mark.parametrize(
    ("text", "what", "way_out"),
    [
        ("FROM a\nSISTEM hi", "m.Modelfile:2: no such command: SISTEM", "SYSTEM"),
        ('FROM a\nSYSTEM "hi"\nthere', "m.Modelfile:3: no such command: there", "quotes"),
        ("FROM a\n\nPARAMETER temprature 1", "m.Modelfile:3: no such parameter", "temperature"),
        ("FROM a\nPARAMETER mirostat 1", "m.Modelfile:2: no such parameter", "Known: num_keep"),
        ("FROM a\nPARAMETER seed 1.5", "m.Modelfile:2: seed takes a whole number, not", "42"),
        ("FROM a\nPARAMETER seed 9999999999999999999", "seed takes a whole number", "42"),
        ("FROM a\nPARAMETER top_p high", "m.Modelfile:2: top_p takes a number", "0.5"),
        ("FROM a\nPARAMETER top_p nan", "top_p takes a number", "0.5"),
        ("FROM a\nPARAMETER top_p 1e99", "top_p takes a number", "0.5"),
        ("FROM a\nPARAMETER use_mmap yes", "use_mmap takes true or false", "true"),
        ("FROM a\nPARAMETER stop", "m.Modelfile:2: stop takes a text", '"END"'),
        (
            'FROM a\nSYSTEM """hi',
            "m.Modelfile:2: a quote is opened and never closed",
            "quotes at the end",
        ),
        ("SYSTEM hi", "m.Modelfile: no FROM line", "FROM embedded:"),
        ("FROM\nSYSTEM hi", "no FROM line", "FROM embedded:"),
        ("", "no FROM line", "FROM embedded:"),
        ("FROM a\nFROM b", "m.Modelfile:2: a second FROM", "Keep one"),
    ],
)
def test_what_is_wrong_is_named_with_line_and_way_out(text: str, what: str, way_out: str) -> None:
    error = refusal(text)
    assert what in error.what
    assert way_out in error.next_step


@pytest.mark.parametrize(
    "word", ["TEMPLATE", "ADAPTER", "RENDERER", "PARSER", "MESSAGE", "DRAFT", "REQUIRES"]
)
def test_what_would_serve_something_else_is_refused_with_the_reason(word: str) -> None:
    error = refusal(f'FROM a\n{word.lower()} "x"')
    assert error.what.startswith(f"m.Modelfile:2: {word} is not taken: ")
    assert error.next_step == "Remove the line."


def test_a_file_that_is_missing_or_not_utf8_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        read(tmp_path / "none.Modelfile")
    (tmp_path / "latin.Modelfile").write_bytes(b"FROM a\nSYSTEM caf\xe9")
    with pytest.raises(BadInput, match=r"latin\.Modelfile:2: this is not UTF-8"):
        read(tmp_path / "latin.Modelfile")
    (tmp_path / "bom.Modelfile").write_bytes(b"\xef\xbb\xbfFROM a\n")
    assert read(tmp_path / "bom.Modelfile").base == "a"


def test_what_ollamas_text_parser_would_lose_is_said() -> None:
    assert lossy("Plain, “curly”, emoji 🦊, é, tab\t, newline\r\n, 100 %") == []
    assert lossy("no\u00a0break\u200d") == [
        "U+00A0 (NO-BREAK SPACE) is dropped",
        "U+200D (ZERO WIDTH JOINER) is dropped",
    ]
    assert lossy('a "quoted"\nb """\nc') == [
        "three quotes at the end of a line cannot be written; they become '''"
    ]


def test_the_context_has_room_for_the_longest_row_and_ends_where_the_base_does() -> None:
    assert context_length(300, 8192, None) == 4096
    assert context_length(4095, 8192, None) == 4096
    assert context_length(4096, 8192, None) == 8192
    assert context_length(5000, 6000, None) == 6000
    assert context_length(300, 2048, None) == 2048


def test_the_users_own_context_wins_unless_a_row_does_not_fit() -> None:
    assert context_length(300, 8192, 512) == 512
    with pytest.raises(BadInput, match="shorter than the longest row") as caught:
        context_length(600, 8192, 512)
    assert "num_ctx 1024" in caught.value.next_step


def test_the_starter_is_a_modelfile() -> None:
    found = parse(starter("tax-help", "./my base"), "x")
    assert found.base == "./my base"
    assert found.system == "You are tax-help."


@pytest.mark.parametrize(
    "line",
    [
        *("num_ctx 0", "num_ctx -4", "num_ctx 5000000000", "num_batch 0", "temperature -4"),
        *("num_thread 100000", "num_keep 3000000000", "top_p 1.5", "num_predict -3"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(BadInput, match=r"^x:2: .* takes .* to .*, not"):
        parse(f"FROM embedded:smollm2-135m-instruct\nPARAMETER {line}\n", "x")
