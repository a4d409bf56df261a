"""Releases of before there were versions become versions, and nothing of them is lost.

`golden/before-versions` was written by the specialist of before: a record with its Modelfile, and
the journal of a promotion that was killed before NAME moved.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from deadly import killed_at
from made import specialist

from pipeline.cli import commands as cli
from pipeline.common.errors import BadInput
from pipeline.made.artifacts import Specialist
from pipeline.release import history, ours, promotion
from pipeline.release.publish import check_name_is_ours, nothing_to_do, release, settle
from pipeline.release.removal import remove
from pipeline.release.rollback import rollback
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.ollama import Ollama

GOLDEN = Path(__file__).parent / "golden/before-versions"
STEPS = 9  # of taking over: more than there are, which a test sees


@pytest.fixture
def served(tmp_path: Path) -> Specialist:
    """What NAME was."""
    return specialist(tmp_path / "two", system="Be long.")


@pytest.fixture
def tags(served: Specialist, ollama: Ollama, tmp_path: Path) -> dict[str, str]:
    """The record of before and its tags, as that program left them."""
    former = specialist(tmp_path / "one", name="former")
    for tag, made in {
        "tiny": served.model_copy(update={"name": "other"}),
        "tiny:previous": former,
    }.items():
        name = release(made, ollama).name
        ollama.copy(name, tag)
        for left in (name, f"{name}:v1"):
            ollama.delete(left)
    history.forget("other"), history.forget("former")
    put("tiny.json", ollama)
    put("tiny.Modelfile", ollama)
    return ollama.tags()


def put(name: str, ollama: Ollama) -> None:
    """A file of the golden ones, with this server's address and digests."""
    text = (GOLDEN / name).read_text()
    record = json.loads((GOLDEN / "tiny.json").read_text())
    text = text.replace("http://127.0.0.1:11434", ollama.address.url)
    text = text.replace(record["manifest"], str(ollama.digest("tiny")))
    text = text.replace(record["former"], str(ollama.digest("tiny:previous")))
    (history.folder() / name).write_text(text)


def after(tags: dict[str, str]) -> dict[str, str]:
    """The tags that are to be there in the end."""
    latest, former = tags["tiny:latest"], tags["tiny:previous"]
    return {"tiny:latest": latest, "tiny:v1": former, "tiny:v2": latest}


def listed(*more: str) -> str:
    told = CliRunner().invoke(cli.main, ["list", *more])
    assert told.exit_code == 0, told.output
    return told.output


def test_the_record_is_listed_as_it_will_be_taken_over_and_nothing_is_written(
    tags: dict[str, str], ollama: Ollama
) -> None:
    before = {path: path.read_bytes() for path in history.folder().iterdir()}
    assert "tiny  v2       smallest" in listed()
    first, second = listed("tiny").splitlines()[1:]
    assert first.startswith("v1 ")
    assert first.endswith(" was tiny:previous")
    assert second.endswith("20 prompts, 14 answers  served now")
    assert {path: path.read_bytes() for path in history.folder().iterdir()} == before
    assert ollama.tags() == tags


def test_the_next_make_gives_versions_to_both(
    tags: dict[str, str], served: Specialist, ollama: Ollama
) -> None:
    settle("tiny", ollama, lambda line: None)
    assert ollama.tags() == after(tags)
    first, second = history.known("tiny").versions
    assert (first.wanted, first.proof, first.when, first.stages[-1]) == (None, None, None, "pack-0")
    assert second.wanted == ours.wanted(served)
    assert (second.rows, second.stages[-1]) == (12, "pack-1")
    assert (second.system, second.parameters) == ("Be long.", served.parameters)
    assert nothing_to_do(served, ollama, lambda line: None)
    before = {path: path.read_bytes() for path in history.folder().rglob("*.json")}
    settle("tiny", ollama, lambda line: None)
    assert {path: path.read_bytes() for path in history.folder().rglob("*.json")} == before


def test_taking_over_takes_fewer_steps_than_are_tried(tags, ollama) -> None:
    with killed_at(STEPS) as death:
        settle("tiny", ollama, lambda line: None)
    assert not death.came and death.steps == STEPS - 2


@pytest.mark.parametrize("step", range(STEPS - 2))
def test_killed_at_any_step_the_next_run_completes_it(
    tags: dict[str, str], ollama: Ollama, step: int
) -> None:
    with killed_at(step) as death:
        settle("tiny", ollama, lambda line: None)
    assert death.came
    assert set(ollama.tags().values()) == set(tags.values())
    assert len(listed("tiny").splitlines()) == 3
    check_name_is_ours("tiny", ollama)
    settle("tiny", ollama, lambda line: None)
    assert ollama.tags() == after(tags)
    assert not history.known("tiny").head.unfinished


def test_where_the_former_model_has_gone_its_number_stays_and_says_so(
    tags: dict[str, str], ollama: Ollama
) -> None:
    ollama.delete("tiny:previous")
    settle("tiny", ollama, lambda line: None)
    assert sorted(ollama.tags()) == ["tiny:latest", "tiny:v2"]
    assert "gone from Ollama, was tiny:previous" in listed("tiny")
    with pytest.raises(BadInput, match="no version of tiny before v2"):
        rollback("tiny", ollama, None, print)
    with pytest.raises(BadInput, match="tiny:v1 is gone from Ollama"):
        rollback("tiny", ollama, 1, print)


def test_without_a_former_one_there_is_one_version(tags: dict[str, str], ollama: Ollama) -> None:
    record = json.loads(history.file("tiny").read_text())
    history.file("tiny").write_text(json.dumps({**record, "former": None}))
    settle("tiny", ollama, lambda line: None)
    assert [version.label for version in history.known("tiny").versions] == ["v1"]
    kept = {"tiny:latest": tags["tiny:latest"], "tiny:v1": tags["tiny:latest"]}
    assert ollama.tags() == {**kept, "tiny:previous": tags["tiny:previous"]}  # none of ours


def test_what_was_put_back_by_hand_is_known_as_the_first_version(
    tags: dict[str, str], ollama: Ollama
) -> None:
    ollama.copy("tiny:previous", "tiny")
    settle("tiny", ollama, lambda line: None)
    assert history.known("tiny").current.label == "v1"
    assert sorted(ollama.tags()) == ["tiny:latest", "tiny:v1"]


def test_tags_that_the_user_made_by_hand_are_left_alone(
    tags: dict[str, str], ollama: Ollama
) -> None:
    """Before there were versions, people called theirs v1 and v2."""
    ollama.copy("tiny:previous", "tiny:v2")
    settle("tiny", ollama, lambda line: None)
    assert [version.label for version in history.known("tiny").versions] == ["v2", "v3"]
    latest, former = tags["tiny:latest"], tags["tiny:previous"]
    assert ollama.tags() == {"tiny:latest": latest, "tiny:v2": former, "tiny:v3": latest}


def test_in_another_ollama_its_tags_wait(
    tags: dict[str, str], served: Specialist, ollama: Ollama, tmp_path: Path
) -> None:
    with FakeOllama(tmp_path / "elsewhere") as fake, Ollama(fake.address) as elsewhere:
        assert release(served, elsewhere).label == "v3"
        assert sorted(elsewhere.tags()) == ["tiny:latest", "tiny:v3"]
    assert ollama.tags() == tags
    settle("tiny", ollama, lambda line: None)
    assert ollama.tags() == after(tags)
    assert [version.label for version in history.known("tiny").versions] == ["v1", "v2", "v3"]


def test_a_release_after_it_goes_on_counting(
    tags: dict[str, str], ollama: Ollama, tmp_path: Path
) -> None:
    assert release(specialist(tmp_path / "three", system="Be odd."), ollama).label == "v3"
    assert rollback("tiny", ollama, 1, print).label == "v1"
    assert ollama.digest("tiny") == tags["tiny:previous"]
    assert not history.file("tiny", "Modelfile").exists()  # what it was made of is not known
    assert rollback("tiny", ollama, 2, print).label == "v2"
    assert remove("tiny", ollama, 1, print).label == "v1"
    assert sorted(ollama.tags()) == ["tiny:latest", "tiny:v2", "tiny:v3"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_promotion_that_the_program_of_before_left_is_put_right(
    tags: dict[str, str], ollama: Ollama, moved: bool, tmp_path: Path
) -> None:
    put("tiny.promotion", ollama)
    journal = json.loads(history.file("tiny", "promotion").read_text())
    record = json.loads(history.file("tiny").read_text())
    third = specialist(tmp_path / "three", name="third", system="Be odd.")
    new = release(third, ollama).manifest
    ollama.copy("third", journal["candidate"])
    ollama.copy("tiny:previous", journal["spare"])
    ollama.copy("tiny", "tiny:previous")
    if moved:
        ollama.copy("third", "tiny")
    for left in ("third", "third:v1"):
        ollama.delete(left)
    history.forget("third")
    now = {**record, "manifest": new, "former": tags["tiny:latest"], "wanted": "new"}
    history.file("tiny").write_text(json.dumps(now))
    history.file("tiny", "promotion").write_text(json.dumps({**journal, "new": new}))
    assert "broke off" in listed()
    settle("tiny", ollama, lambda line: None)
    assert promotion.broken_off() == []
    latest = tags["tiny:latest"]
    if moved:
        assert ollama.tags() == {"tiny:latest": new, "tiny:v1": latest, "tiny:v2": new}
    else:
        former = tags["tiny:previous"]
        assert ollama.tags() == {"tiny:latest": latest, "tiny:v1": former, "tiny:v2": latest}


def test_gc_keeps_the_stages_of_both_and_forgets_both(tags: dict[str, str], ollama: Ollama) -> None:
    for _ in range(2):
        assert "7 stages in use" in CliRunner().invoke(cli.main, ["gc"]).output
        settle("tiny", ollama, lambda line: None)
    told = CliRunner().invoke(cli.main, ["gc", "--forget", "tiny"])
    assert "0 stages in use" in told.output
    assert [path.name for path in history.folder().iterdir() if "lock" not in path.name] == []


def test_a_program_of_before_reads_that_the_format_is_newer(
    tags: dict[str, str], ollama: Ollama
) -> None:
    """Else it would find no record, and its `gc` would remove all stages."""
    settle("tiny", ollama, lambda line: None)
    assert json.loads(history.file("tiny").read_text())["format"] == 2


def test_a_version_whose_record_is_missing_is_an_error_by_name(
    tags: dict[str, str], ollama: Ollama
) -> None:
    settle("tiny", ollama, lambda line: None)
    shutil.rmtree(history.file("tiny", "versions"))
    for command in (["gc"], ["list"], ["list", "tiny"]):
        told = CliRunner().invoke(cli.main, command)
        assert told.exit_code == 1
        assert "v0001.json is missing" in told.output
