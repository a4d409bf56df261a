"""What `intake` promises: rows in one order, their origin beside them, and equal rows are equal."""

import json
import random
from pathlib import Path
from typing import Any

import byte_level
import pytest
from engines import InProcess
from taken_in import taken_in

from pipeline.bases.chat_template import render
from pipeline.common import places
from pipeline.common.errors import ToolFailed
from pipeline.intake.source import locate
from pipeline.made.artifacts import Base
from pipeline.made.conversations import line_of
from pipeline.made.stage import Where
from pipeline.run.engine import Watcher
from pipeline.run.store import Store
from pipeline.stages import intake, prepare
from pipeline.stages.preparing import tokens
from pipeline.stages.preparing.tokens import FIRST, SPLIT, NotByPieces, Tokens
from pipeline.stages.settings import Intake, Prepare
from pipeline.tools import llamacpp

PLAIN = Prepare(system="", skip_long=False)


def row(asked: str, answer: str = "Yes", **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **more}


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def test_each_row_keeps_its_line_and_what_else_it_says(tmp_path: Path) -> None:
    named = row("Who?", id=7, tags=[], metadata={"day": "Monday"})
    named["messages"][0]["name"] = "Bob"
    found = taken_in(written(tmp_path / "rows.jsonl", row("When?"), named))
    by_line = {line_of(origin): json.loads(origin) for _, origin in found.each()}
    assert sorted(by_line) == [1, 2]
    assert "fields" not in by_line[1]
    assert by_line[2]["fields"] == {"id": 7, "metadata": {"day": "Monday"}}
    assert by_line[2]["turns"] == {"0": {"name": "Bob"}}
    rows = [json.loads(line)["messages"] for line, _ in found.each()]
    assert all(set(turn) == {"role", "content"} for turns in rows for turn in turns)


def test_equal_rows_on_other_lines_are_prepared_once_and_errors_tell_the_new_lines(
    tmp_path: Path, smallest_base: Base
) -> None:
    told: list[str] = []
    watcher = Watcher(ready=lambda s: told.append(f"{s} ready"), start=lambda s: told.append(s))
    store = Store(tmp_path / "store")
    one = written(tmp_path / "one.jsonl", row("A", id=1), row("B", id=2))
    two = written(tmp_path / "two.jsonl", row("New line above?", id=9), row("B"), row("A"))
    two.write_text("\n" + two.read_text().partition("\n")[2])  # other lines, order and fields
    made = []
    for path in (one, two):
        engine = InProcess(store, watcher)
        rows = engine.do(intake.STAGE, Intake(), source=locate(path))
        made.append((rows, engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)))
    assert told == ["intake", "prepare", "intake", "prepare ready"]
    (first, data), (second, again) = made
    assert (first.digest, data) == (second.digest, again)
    assert first.path != second.path
    keys = [json.loads(origin)["row"] for _, origin in first.each()]
    assert sorted(place[-2:] for place in second.places(keys).values()) == [":2", ":3"]


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, smallest_base: Base) -> None:
    """4,000 rows of 4 kB are 16 MB; neither stage may hold a fifth of them."""
    import tracemalloc

    path = written(tmp_path / "rows.jsonl", *(row(f"{n} " + "word " * 800) for n in range(4000)))
    tracemalloc.start()
    try:
        found = taken_in(path)
        _, taking = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in found.each():
            pass
        _, reading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taking < 3e6 + 2 * 8 * 2**20  # two buffers of files
    assert reading < 3e6


# Both tokenizers, by pieces.


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """A base with a byte-level vocabulary."""
    return byte_level.base(tmp_path / "byte-level")


class Other:
    """llama.cpp's tokenizer with a difference."""

    def __init__(self, real: Any, wrong: str, needs: str) -> None:
        self.real, self.wrong, self.needs = real, wrong, needs
        self.split_by = real.split_by
        self.asked: list[str] = []

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        self.asked.append(text)
        found: list[int] = self.real.tokenize(text, special=special)
        return [*found, 0] if self.wrong in text and self.needs in text else found

    def __exit__(self, *error: object) -> None:
        self.real.__exit__(*error)


def cut(tokens: Tokens, base: Base, asked: str, answer: str, at: str = "r:1") -> list[int]:
    prompt = render(base, [{"role": "user", "content": asked}], generate=True)
    tokens.begin(at)
    ids, more = tokens.cut(prompt, answer)
    return ids + more


TEXTS = (
    *(
        "Hello there, how  are you?\n\n  Fine: 1,234.50 €",
        "tab\there \n x",
        "日本 語 🙂 e\u0301 ",
    ),
    *(
        " leading",
        "trailing ",
        "\nnewline first",
        "\n\n\nbe",
        "a\u00a0b \u2003 c",
        "x  y   z\n\n\n",
        "it's",
    ),
    *("\r\n dos", "1 22 333 4444", "<b> a & b </b>", "\u2014 dash \u2013 dash", "A" * 300, "  "),
)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_of_pieces_are_those_of_the_whole_in_both_tokenizers(base: Base, text: str) -> None:
    with Tokens(base) as tokens, Tokens(base, by_pieces=False) as whole:
        assert tokens.by_pieces
        for asked, answer in ((text, "Yes."), ("Why?", text), (text, text)):
            assert cut(tokens, base, asked, answer) == cut(whole, base, asked, answer)
        tokens.settle()


def vocabularies() -> list[Path]:
    found = (places.llama_cpp() / "models").glob("ggml-vocab-*.gguf")
    return [path for path in sorted(found) if path.stem[len("ggml-vocab-") :] in SPLIT]


ODD = (
    *("\n", "\n\n", "\t", " ", "  ", "   ", "\r\n", "\u00a0", "\u2003", "\u3000", "\x1c", "\x85"),
    *("é", "e\u0301", "\u0301", "日本", "🙂", "\u200b", "\u200d", "\ufeff", "\u2028", " \n", "\n "),
    *(
        "1234567",
        "1,000",
        "'s",
        "'LL",
        "don't",
        "—",
        "…",
        "!!",
        "(a)",
        "#",
        "$5",
        "//",
        "==",
        "½",
        "Ⅷ",
    ),
    *("the", "The", "tools", "WOOL", "हिन्दी", "العربية", "100%", "_x_"),
)


def odd_text(dice: random.Random) -> str:
    parts = dice.choices(ODD, k=dice.randint(1, 12))
    return "".join(part + dice.choice((" ", " ", "", "\n", "  ")) for part in parts)


@pytest.mark.parametrize("path", vocabularies(), ids=lambda path: path.stem)
def test_llama_cpp_splits_wherever_a_text_is_cut(path: Path) -> None:
    """For the vocabularies whose expressions are relied on; DeepSeek's keep `== ==` together."""
    dice = random.Random(path.stem)
    with llamacpp.Model(path) as model:
        for _ in range(300):
            text = odd_text(dice)
            starts, words = tokens.cut(text)
            pieces = [*starts, *(f" {word}" for word in words)]
            assert "".join(pieces) == text
            ids = [one for piece in pieces for one in model.tokenize(piece, special=False)]
            assert ids == model.tokenize(text, special=False), text


def test_vocabularies_with_other_expressions_are_not_cut() -> None:
    models = places.llama_cpp() / "models"
    for name in ("deepseek-coder", "deepseek-llm", "llama-spm"):
        with llamacpp.Model(models / f"ggml-vocab-{name}.gguf") as model:
            assert model.split_by not in SPLIT
    assert len(vocabularies()) >= 8


def test_rows_of_known_words_ask_llama_cpp_nothing(base: Base) -> None:
    with Tokens(base) as tokens:
        tokens.served = other = Other(tokens.served, "\0", "")
        for number in range(200):
            if number == FIRST + 5:
                tokens.settle()
                other.asked.clear()
            cut(tokens, base, "one two three", "three two one")
        assert not other.asked


def test_a_difference_in_a_word_is_found_and_its_row_told(base: Base) -> None:
    with Tokens(base) as tokens:
        tokens.served = Other(tokens.served, "zebra", "")
        for _ in range(FIRST + 20):
            cut(tokens, base, "one two three", "three two one abcdefghijklmnopqrstuvwxyz")
        cut(tokens, base, "one zebra three", "one", at="rows.jsonl:77")
        cut(tokens, base, "one two three", "one", at="rows.jsonl:78")
        with pytest.raises(ToolFailed, match=r"rows.jsonl:77: llama.cpp tokenizes .*zebra"):
            tokens.settle()


def test_a_difference_in_how_a_text_is_split_is_found_where_a_new_character_comes(
    base: Base,
) -> None:
    with Tokens(base) as tokens:
        tokens.served = Other(tokens.served, "ü", " ")  # right alone, wrong in a text
        for _ in range(FIRST + 20):
            cut(tokens, base, "one two three", "three two one")
        with pytest.raises(ToolFailed, match=r"rows\.jsonl:77: "):
            cut(tokens, base, "one two three", "grün three", at="rows.jsonl:77")


def test_words_that_are_right_alone_and_wrong_together_are_not_relied_on(base: Base) -> None:
    with Tokens(base) as tokens:
        tokens.served = Other(tokens.served, "zebra", "\n")
        for _ in range(FIRST + 20):
            cut(tokens, base, "one two three", "three two one abcdefghijklmnopqrstuvwxyz")
        cut(tokens, base, "a zebra", "one")
        with pytest.raises(NotByPieces):
            tokens.settle()


def test_a_vocabulary_that_is_not_split_first_is_compared_row_by_row(
    smallest_base: Base,
) -> None:
    with Tokens(smallest_base) as tokens:
        assert not tokens.by_pieces
        tokens.served = other = Other(tokens.served, "\0", "")
        for _ in range(3):
            cut(tokens, smallest_base, "one two three", "three")
        assert len([text for text in other.asked if text.endswith("three")]) == 3


def test_rows_whose_cuts_are_no_splits_are_made_again_as_a_whole(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = taken_in(written(tmp_path / "rows.jsonl", *(row(f"Question {n}?") for n in range(12))))
    made = []
    for cuts in (True, False):
        monkeypatch.setattr(Tokens, "_are_splits", lambda self, text, cuts=cuts: cuts)
        out = tmp_path / str(cuts)
        out.mkdir()
        made.append(prepare.run(out, PLAIN, base, rows, where=Where()))
    assert made[0].digest == made[1].digest
