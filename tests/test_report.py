"""What a report says, in which order, and that whatever is in the rows it stays a small page."""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from engines import InProcess
from made import specialist
from reported import CHECKS, GO, evaluation, full, report, rows, version

from pipeline.bases.reference import resolve
from pipeline.cli.commands import main
from pipeline.common import places
from pipeline.common.errors import BadInput
from pipeline.evaluation import rivals
from pipeline.evaluation.compare import Comparison
from pipeline.evaluation.page import charts
from pipeline.evaluation.page.differences import differences
from pipeline.evaluation.page.gather import figures, gather
from pipeline.evaluation.page.page import LARGEST, check, html, write
from pipeline.evaluation.page.report import Report, Row
from pipeline.evaluation.page.ruling import ruling
from pipeline.evaluation.page.text import plain, signed
from pipeline.made.artifacts import Specialist
from pipeline.release import history, made_of, reports
from pipeline.release.verdict import Verdict
from pipeline.release.version import Version
from pipeline.tools import smallest

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\x00\x07\x1b[31mred\x7f\x85\ufffe\ud800",
    "مرحبا بالعالم \u202eevil\u202d שלום",
    "🧦👩‍👩‍👧 12 €",
    "a" * 10_000,
    "{{ 7 * 7 }}{% raw %}<!-- --><![CDATA[",
    "</style></title></textarea><base href=//evil>",
)


def hostile_report(count: int, length: int = 9000) -> Report:
    """Rows that want to be anything but text."""
    text = "\n".join(HOSTILE)
    long = (text + "\n") * (length // len(text) + 1)
    models = ("tiny:v1", "the base", "<b>bold</b>")
    every = [
        Row(
            place=f"<i>rows</i>.jsonl:{i}",
            question=HOSTILE[i % len(HOSTILE)] or long,
            reference=long[i:],
            answers={name: long[i + 5 :] for name in models},
            losses={name: 3.0 + j for j, name in enumerate(models)},
            remarks=HOSTILE,
            before=(("user", HOSTILE[0]), ("assistant", long)),
            more=1.0 if i % 2 else -1.0,
        )
        for i in range(count)
    ]
    return report(GO, rows=tuple(every))


class Text(HTMLParser):
    """What a page says, its elements, and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "link", "input", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


# the order


def test_it_begins_with_the_verdict_and_ends_with_where_it_comes_from() -> None:
    told = Text(html(full()))
    assert told.open == []
    heads = re.findall(r"<h2[^>]*>([^<]+)", html(full()))
    assert heads == [
        *("In numbers", "What is open", "What to do next", "Answers side by side"),
        *("All measures", "Forgetting", "What the type costs", "How it learned", "Data"),
        "Provenance",
    ]
    start = told.text.index("Go, with open questions Better than the base on 17 of 17 rows")
    assert start < told.text.index("In numbers")


def test_the_three_numbers_have_intervals() -> None:
    found = figures(evaluation())
    assert [one.label for one in found] == [
        *("against the base", "against the base with 8 examples", "everyday questions"),
    ]
    for one in found:
        assert re.fullmatch(r"\S+ to \S+", one.between)


def test_what_is_bad_comes_before_what_is_open_and_its_remedy_first() -> None:
    told = ruling(evaluation(GO))
    assert [one.kind for one in told.open] == ["bad", "open"]
    assert told.next[0] == CHECKS[3].next_step
    assert told.word == "Go, with open questions"


def test_a_stop_says_what_stopped_it() -> None:
    bad = CHECKS[1].model_copy(update={"found": "bad", "sentence": "Not better than the base"})
    told = ruling(evaluation(Verdict(says="stop", reasons=("x",), checks=(bad, CHECKS[3]))))
    assert (told.kind, told.word, told.sentence) == ("bad", "Stop", "Not better than the base")
    two = ruling(evaluation(Verdict(says="stop", reasons=("No: it is empty.", "and endless"))))
    assert (two.sentence, two.more) == ("No", "It is empty. And endless")


def test_a_record_of_before_there_were_checks_is_not_called_good() -> None:
    told = ruling(evaluation(Verdict()))
    assert (told.kind, told.word) == ("none", "Not judged")
    assert "its voice runs into everything" in told.open[-1].sentence
    assert "--set tune.epochs=5" in told.next[0]
    assert not any("Q4_K_M" in one.sentence for one in told.open)  # it should not be told apart


def test_too_few_rows_are_a_page_too() -> None:
    found = evaluation(rows=2)
    told = Text(html(report(rows=rows(found), figures=figures(found), ruling=ruling(found)))).text
    assert "Too few rows to compare with the base" in told
    assert "too few rows for an interval" in told


def test_what_was_not_measured_is_a_sentence() -> None:
    told = Text(html(report(memory=None, drift=None, comparisons=(), figures=(), rows=()))).text
    for sentence in ("the base could not be asked", "itself in 16 bits", "no losses of its"):
        assert sentence in told
    assert "There is no row to show." in told


def test_numbers_of_charts_stand_in_tables_too() -> None:
    page = html(full())
    assert page.count('<svg role="img"') == page.count("</title>") - 1 == 3
    assert page.count("<summary>The numbers</summary>") == 3


# rows


def test_a_row_has_its_place_its_question_and_what_each_model_makes_of_it() -> None:
    page = html(full())
    told = Text(page).text
    assert "data/brand-voice.jsonl:1 " in told
    assert told.count("better than the base by") == 17
    assert "<del>paper dry</del> <ins>mended twice</ins> and" in page
    assert "the base (worded otherwise, not marked)" in told


def test_without_rows_no_word_of_the_company_is_in_it() -> None:
    page = html(full(), rows=False)
    assert "The rows are left out of this copy" in page
    for private in ("map case", "brand-voice.jsonl", "You write copy."):
        assert private in html(full())
        assert private not in page


def test_the_worst_row_comes_first() -> None:
    more = [row.more for row in report().rows]
    assert more == sorted(more, reverse=True)


def test_no_text_becomes_an_element_and_control_characters_are_seen() -> None:
    page = html(hostile_report(3))
    told = Text(page)
    assert told.open == []
    assert not {"script", "img", "base", "iframe"} & set(told.tags)
    assert not {name for name in told.attributes if name.startswith("on")}
    assert "7 * 7" in page and "49 " not in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", page)
    assert "␀␇␛[31mred␡" in page
    assert "[U+202E]evil[U+202D]" in page


def test_three_hundred_long_rows_are_a_page_that_a_phone_opens() -> None:
    page = html(hostile_report(300))
    assert 1_000_000 < len(page.encode()) <= LARGEST
    shown = page.count('<details class="row')
    assert 10 < shown <= 200
    assert f"<b>{300 - shown} more rows</b>" in page
    assert re.search(r"cut, [\d,]+ more characters", page)


def test_at_most_two_hundred_rows_are_shown() -> None:
    some = [Row(f"rows.jsonl:{i}", "why?", "so") for i in range(300)]
    page = html(report(rows=tuple(some)))
    assert page.count('<details class="row') == 200
    assert "<b>100 more rows</b>" in page


def test_a_row_for_each_turn_that_was_asked(tiny: Specialist) -> None:
    found = evaluation()
    line = next(tiny.data.each("test"))
    from pipeline.evaluation.page.rows import held_out
    from pipeline.stages import score

    some = [
        SimpleNamespace(
            row=score.named(line), turn=turn, question="q", reference="r", model=model, text="t"
        )
        for turn in (0, 1)
        for model in ("tiny:v1", "the base")
    ]
    rows_ = held_out(tiny, found, some)
    assert len(rows_) == tiny.data.test + 1
    assert [dict(row.answers) for row in rows_ if row.answers] == [
        {"tiny:v1": "t", "the base": "t"}
    ] * 2


# pieces


@pytest.mark.parametrize(
    ("reference", "answer", "marks"),
    [
        ("Socks cost 12.50 €.", "Socks cost 13.50 €.", [("del", "12.50"), ("ins", "13.50")]),
        ("one two three", "one two three", []),
        ("one two three", "one two", [("del", "three")]),
        ("Sí, enviamos a Perú.", "Si, enviamos a Perú.", [("del", "Sí"), ("ins", "Si")]),
        ("羊毛の靴下", "羊毛の帽子", [("del", "靴下"), ("ins", "帽子")]),
    ],
)
def test_differences_are_marked_by_words(
    reference: str, answer: str, marks: list[tuple[str, str]]
) -> None:
    found = differences(reference, answer)
    assert found is not None
    assert [(piece.kind, piece.text) for piece in found if piece.kind != "same"] == marks
    shown = "".join(piece.text for piece in found if piece.kind != "del")
    assert shown.split() == answer.split()


def test_what_is_worded_otherwise_is_not_marked_all_over() -> None:
    assert differences("Wool keeps you warm.", "Sure, here is what I know about sheep") is None


def test_signs_are_as_wide_as_each_other() -> None:
    assert [signed(x) for x in (0.214, -0.214, -0.001)] == ["+0.21", "\u22120.21", "0.00"]
    assert plain("a\r\nb\rc\td") == "a\nb␍c\td"


@pytest.mark.parametrize(("low", "high"), [(0, 0), (-1e-9, 1e-9), (-300, 2), (1.35, 1.83)])
def test_whiskers_stay_on_the_chart(low: float, high: float) -> None:
    from pipeline.evaluation.intervals import Interval

    middle = (low + high) / 2
    within = Interval(middle, low, high)
    one = Comparison("x", "base", 5, 3, middle, within, within, 1.0, 0.2)
    found = charts.whiskers([one, replace(one, interval=None)])
    inside = [found.zero, *(x for x, _ in found.ticks), *(row.at for row in found.rows)]
    assert all(0 <= x <= 100 for x in [*inside, found.rows[0].low or 0, found.rows[0].high or 0])
    assert found.rows[1].low is None


# the file and the command


@pytest.fixture
def tiny(tmp_path: Path) -> Specialist:
    return specialist(tmp_path / "made", rows=20)


@pytest.fixture
def released(tiny: Specialist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Version:
    """A version whose base says something else, evaluated in this process."""
    smallest.write(tiny.base.vocab)
    smallest.write(tmp_path / "base.gguf", "no")
    base = resolve(str(tmp_path / "base.gguf"), tmp_path)
    monkeypatch.setattr(made_of, "specialist", lambda version, store: tiny)
    monkeypatch.setattr("pipeline.run.child_process.ChildProcess", lambda watcher=None: InProcess())
    found = Version(
        name="Tiny",
        version=1,
        manifest="m",
        ollama="",
        origin=str(tmp_path / "base.gguf"),
        origin_digest=base.digest,
    )
    history.write_version(found)
    history.write_head(history.Head(name="Tiny", current=1, versions=[1]))
    return found


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(arguments))
    return done.exit_code, done.output


def test_the_command_writes_a_file_for_its_owner_and_prints_its_path_last(
    released: Version, tmp_path: Path
) -> None:
    code, said = run("report", "Tiny")
    assert code == 0, said
    path = places.home() / "reports" / "tiny-v1.html"
    assert said.splitlines()[-1] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = Text(path.read_text(encoding="utf-8")).text
    assert "rows.jsonl:" in told
    assert "Question 17: “why”?" in told
    assert "Too few rows to compare with the base" in told

    mine = tmp_path / "mine.html"
    code, said = run("report", "Tiny", "v1", "--without-rows", "--output", str(mine))
    assert (code, said.splitlines()[-1]) == (0, str(mine))
    assert "why" not in Text(mine.read_text(encoding="utf-8")).text
    assert not reports.file("Tiny", 1, rows=False).exists()


def test_it_never_writes_over_what_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("{}")
    with pytest.raises(BadInput, match="is no report"):
        check(tmp_path / "data.jsonl")
    with pytest.raises(BadInput, match="is a folder"):
        check(tmp_path)
    path = write(report(), tmp_path / "deep" / "er" / "x.html")
    check(path)
    assert write(report(), path) == path
    assert [one.name for one in path.parent.iterdir()] == ["x.html"]


@pytest.mark.parametrize("arguments", [["nobody"], ["nobody", "v3"], ["Tiny", "v7"]])
def test_a_version_that_there_is_not_is_two_lines(released: Version, arguments: list[str]) -> None:
    code, said = run("report", *arguments)
    assert code == 1
    assert "Error: " in said and len(said.strip().splitlines()) == 2


def test_gc_removes_reports_of_versions_that_are_gone(released: Version) -> None:
    known = history.known("Tiny")
    second = released.model_copy(update={"version": 2})
    history.write_version(second)
    history.write_head(known.head.model_copy(update={"versions": [1, 2], "current": 2}))
    for number in (1, 2):
        for with_rows in (True, False):
            write(report(), reports.file("Tiny", number, rows=with_rows))
    (reports.folder() / "notes.html").write_text("mine")
    left = lambda: sorted(path.name for path in reports.folder().iterdir())  # noqa: E731

    assert run("gc")[0] == 0
    assert len(left()) == 5
    history.update(history.known("Tiny"), removed=[1])
    assert "would remove the report" in run("gc", "--dry-run")[1]
    assert len(left()) == 5
    run("gc")
    assert left() == ["notes.html", "tiny-v2-without-rows.html", "tiny-v2.html"]
    run("gc", "--forget", "tiny")
    assert left() == ["notes.html"]


def test_everything_that_is_known_of_a_version_is_in_it(
    released: Version, tiny: Specialist
) -> None:
    found = rivals.evaluate(released, InProcess(), [Path("/")])
    made = gather(replace(found, version=version(GO)), tiny)
    assert len(made.rows) == tiny.data.test
    assert {row.place for row in made.rows} == {f"rows.jsonl:{i}" for i in range(17, 21)}
    told = Text(html(made)).text
    for fact in ("smallest, 50,000 weights", "16 to train", "tune.epochs", "272 tensors equal"):
        assert fact in told
