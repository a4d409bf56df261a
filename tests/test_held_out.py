"""What versions trained and were tested on: known from their records, and never mixed up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from engines import InProcess
from made import specialist
from taken_in import taken_in

from pipeline.cli.commands import main
from pipeline.evaluation import rivals
from pipeline.evaluation.compare import Measured
from pipeline.evaluation.words import worn
from pipeline.made.artifacts import Base, Dataset, Specialist
from pipeline.made.conversations import Conversations
from pipeline.made.stage import Where
from pipeline.release import held_out, history, made_of
from pipeline.release.history import Head, History
from pipeline.release.publish import release
from pipeline.release.version import Version
from pipeline.run.store import Store
from pipeline.stages import prepare
from pipeline.stages.settings import Prepare
from pipeline.tools import smallest
from pipeline.tools.ollama import Ollama


def version(number: int, data: Dataset, **more: object) -> Version:
    """As a release records it."""
    facts = {
        "name": "tiny",
        "version": number,
        "manifest": f"m{number}",
        "ollama": "",
        "data": data.digest,
        "trained": held_out.noted(held_out.names(data, "train")),
        "tested": held_out.noted(held_out.names(data, "test")),
    }
    return Version.model_validate({**facts, **more})


def of(*versions: Version) -> History:
    numbers = [each.version for each in versions]
    return History(Head(name="tiny", current=numbers[-1], versions=numbers), versions)


def rows_of(path: Path, count: int) -> Conversations:
    turns = [
        [{"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": "No."}]
        for n in range(count)
    ]
    path.write_text("".join(json.dumps({"messages": each}) + "\n" for each in turns))
    return taken_in(path)


def split(folder: Path, base: Base, rows: Conversations, known: History | None) -> Dataset:
    folder.mkdir()
    before = held_out.not_tested(known, rows, Store())
    settings = Prepare(system="", skip_long=False, not_tested=before)
    return prepare.run(folder, settings, base, rows, where=Where())


def test_a_file_that_grows_from_version_to_version_tests_no_row_that_one_trained(
    tmp_path: Path, smallest_base: Base
) -> None:
    known: History | None = None
    trained: set[str] = set()
    for number, count in enumerate((12, 30, 40, 44, 57, 80, 100, 208), start=1):
        rows = rows_of(tmp_path / f"{count}.jsonl", count)
        data = split(tmp_path / str(count), smallest_base, rows, known)
        assert not trained & held_out.names(data, "test")
        assert data.test >= count * 0.09
        trained |= held_out.names(data, "train")
        known = of(*(known.versions if known else ()), version(number, data))
        again = split(tmp_path / f"{count} again", smallest_base, rows, known)
        assert again.digest == data.digest  # nothing is trained again for it
    assert data.test == 20


def test_a_version_whose_rows_nobody_knows_holds_nothing_up(
    tmp_path: Path, smallest_base: Base
) -> None:
    rows = rows_of(tmp_path / "rows.jsonl", 40)
    data = split(tmp_path / "data", smallest_base, rows, None)
    old = version(1, data, trained="", tested="", stages=["prepare-0123456789abcdef"])
    assert held_out.trained(old, Store()) is None
    assert held_out.not_tested(of(old), rows, Store()) == ()


def test_a_record_keeps_eight_characters_of_a_row(tmp_path: Path, smallest_base: Base) -> None:
    data = split(tmp_path / "data", smallest_base, rows_of(tmp_path / "rows.jsonl", 40), None)
    names = held_out.names(data, "train")
    note = held_out.noted(names)
    assert held_out.read(note) == names
    assert len(note) == 8 * 30
    assert held_out.read("") == frozenset()


def test_how_often_a_test_part_has_decided_is_counted(tmp_path: Path, smallest_base: Base) -> None:
    rows = {count: rows_of(tmp_path / f"{count}.jsonl", count) for count in (40, 60, 2000)}
    data = {n: split(tmp_path / str(n), smallest_base, each, None) for n, each in rows.items()}
    known = of(version(1, data[40]), version(2, data[40], base="another"), version(3, data[60]))
    shared = held_out.names(data[40], "test") & held_out.names(data[60], "test")
    assert len(shared) >= 5
    assert held_out.times_decided(known, data[40]) == 3
    assert held_out.times_decided(known, data[2000]) == 0
    old = version(4, data[2000], trained="", tested="")  # its data is the same
    assert held_out.times_decided(of(*known.versions, old), data[2000]) == 1
    assert held_out.times_decided(None, data[40]) == 0


def test_from_the_tenth_candidate_on_it_is_said() -> None:
    assert worn(9) == ""
    assert worn(10) == "These rows have chosen among 10 candidates: add new ones"


@pytest.fixture
def made(tmp_path: Path) -> Specialist:
    return specialist(tmp_path / "made")


def test_a_release_records_what_it_trained_and_lists_do_not_print_it(
    made: Specialist, ollama: Ollama
) -> None:
    release(made, ollama)
    record = history.known("tiny").current
    assert held_out.read(record.trained) == held_out.names(made.data, "train")
    assert held_out.read(record.tested) == held_out.names(made.data, "test")
    shutil.rmtree(made.data.path)  # gone from the store
    assert held_out.trained(record, Store()) is not None
    for arguments in (["list", "--json"], ["list", "tiny", "--json"]):
        told = CliRunner().invoke(main, arguments)
        assert told.exit_code == 0
        assert not {"trained", "tested"} & json.loads(told.output)[0].keys()


# against another version


def compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Specialist, mine: Specialist
) -> Measured:
    some = {1: other, 2: mine}
    monkeypatch.setattr(made_of, "specialist", lambda version, store: some[version.version])
    first, second = (version(number, each.data) for number, each in some.items())
    return rivals._other(first, InProcess(), second, mine)


def test_another_version_is_asked_all_rows_that_neither_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 rows are in both files, 16 of them trained by the first: the others are new to it."""
    mine, other = specialist(tmp_path / "mine", rows=22), specialist(tmp_path / "other", rows=20)
    for each in (mine, other):
        smallest.write(each.base.vocab)
    other = other.model_copy(update={"base": mine.base})
    rows = compared(tmp_path, monkeypatch, other, mine).rows
    assert len(rows) == 4  # of its own test part, 19 and 20; and 21 and 22, which it never saw


def test_behind_another_system_message_each_is_asked_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = specialist(tmp_path / "mine", rows=22)
    other = specialist(tmp_path / "other", rows=20).model_copy(
        update={"base": mine.base, "system": "Be long."}
    )
    smallest.write(mine.base.vocab)
    rows = compared(tmp_path, monkeypatch, other, mine).rows
    assert len(rows) == 2  # 19 and 20: mine trained 17 and 18
