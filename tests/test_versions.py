"""Going back, giving up, looking again: what `list NAME`, `rollback`, `remove` and `verify` do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from deadly import killed_at
from made import specialist as whole

from pipeline.cli import commands as cli
from pipeline.common import places
from pipeline.made import sealed
from pipeline.made.artifacts import Specialist
from pipeline.release import history
from pipeline.release.publish import nothing_to_do, release
from pipeline.release.rollback import rollback
from pipeline.spec import modelfile
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.ollama import Ollama


@pytest.fixture(autouse=True)
def at_its_address(fake: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find it as they find a real one."""
    monkeypatch.setenv("OLLAMA_HOST", fake.address.netloc)


def in_store(made: Specialist) -> Specialist:
    """The same with its stage directories in the store, sealed as an engine leaves them."""
    moved = {}
    for name, artifact in {**made.artifacts(), "rows": made.rows}.items():
        stage = artifact.path.name.partition("-")[0]
        path = places.home() / "stages" / f"{stage}-{artifact.digest[:16]}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f"{path.name}.lock").touch()
            shutil.copytree(artifact.path, path)
            facts = artifact.model_dump(mode="json", exclude={"path"})
            key = sealed.Key(stage=name, version=1, settings={}, inputs=[])
            sealed.seal(path, sealed.StageRecord(artifact=facts, key=key))
        moved[name] = artifact.model_copy(update={"path": path})
    stages = tuple(artifact.path.name for artifact in moved.values())
    moved["packed"] = moved.pop("gguf")
    return made.model_copy(update={**moved, "stages": stages})


@pytest.fixture
def first(tmp_path: Path) -> Specialist:
    return in_store(whole(tmp_path / "one"))


@pytest.fixture
def second(tmp_path: Path) -> Specialist:
    return in_store(whole(tmp_path / "two", system="Be long."))


@pytest.fixture
def two(first: Specialist, second: Specialist, ollama: Ollama) -> None:
    """Two versions of `tiny` are registered."""
    release(first, ollama)
    release(second, ollama)


def specialist(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


def said(*arguments: str) -> str:
    told = specialist(*arguments)
    assert told.exit_code == 0, told.output
    return told.output


def refused(*arguments: str) -> str:
    told = specialist(*arguments)
    assert told.exit_code == 1, told.output
    assert len(told.stderr.strip().splitlines()) == 2, told.stderr
    return told.stderr


def test_the_history_is_listed_with_what_is_served(two: None) -> None:
    head, one, now = said("list", "tiny").splitlines()
    assert head.split() == ["VERSION", "DATE", "BASE", "TYPE", "LOSS", "SIZE", "VERDICT", "PROOF"]
    assert one.startswith("v1 ") and one.endswith("0 MB  -        20 prompts, 14 answers")
    assert now.startswith("v2 ") and now.endswith("20 prompts, 14 answers  served now")
    one, now = json.loads(said("list", "tiny", "--json"))
    assert (one["state"], now["state"]) == ("there", "served")
    assert now["proof"]["conversations"] == 20
    assert "tiny  v2 " in said("list")
    [shown] = json.loads(said("list", "--json"))
    assert (shown["version"], shown["current"], shown["in_ollama"]) == (2, 2, True)


def test_a_name_that_there_is_not_is_an_error_in_either_form(home: Path) -> None:
    assert "there is no specialist tinny" in refused("list", "tinny")
    told = specialist("list", "tinny", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["errors"][0]["what"] == "there is no specialist tinny"
    assert "cannot be called" in refused("list", "a/b")


def test_what_was_changed_by_hand_is_listed_so(two: None, ollama: Ollama, fake: FakeOllama) -> None:
    ollama.copy("tiny:v1", "tiny")
    assert said("list", "tiny").splitlines()[1].endswith("  served now")
    assert "tiny  v1 " in said("list")
    ollama.copy("tiny:v1", "tiny:v2")
    assert said("list", "tiny").splitlines()[2].endswith("  the tag is another model now")
    ollama.delete("tiny:v2")
    assert said("list", "tiny").splitlines()[2].endswith("  gone from Ollama")
    ollama.delete("tiny")
    assert said("list", "tiny").splitlines()[-1] == "tiny:latest is gone from Ollama"
    fake.models["tiny:latest"] = {**fake.models["tiny:v1"], "system": "By hand."}
    for lines in (said("list"), said("list", "tiny")):
        assert lines.strip().endswith("tiny:latest is a model that was not made here")


def test_without_an_ollama_the_history_is_listed_all_the_same(two: None, fake: FakeOllama) -> None:
    fake.stop()
    lines = said("list", "tiny").splitlines()
    assert lines[2].endswith("20 prompts, 14 answers")
    assert lines[3].startswith("what is served is not known: no Ollama answers at http://")


def test_rollback_serves_the_version_before_and_make_is_told_so(
    two: None, first: Specialist, second: Specialist, ollama: Ollama
) -> None:
    tags = ollama.tags()
    out = said("rollback", "tiny")
    assert out.splitlines()[-1].startswith("tiny serves v1 again:  ")
    assert ollama.tags() == {**tags, "tiny:latest": tags["tiny:v1"]}
    written = modelfile.parse(history.file("tiny", "Modelfile").read_text(), "tiny")
    assert (written.base, written.system) == (str(first.packed.served.path), first.system)
    assert nothing_to_do(first, ollama, print)
    assert release(second, ollama).label == "v3"
    assert "served now" in said("list", "tiny").splitlines()[3]
    said("rollback", "tiny")  # v2 is the same model as v3
    assert ollama.digest("tiny") == tags["tiny:v1"]
    said("rollback", "tiny", "3")
    assert ollama.digest("tiny") == tags["tiny:v2"]


@pytest.mark.parametrize(
    ("arguments", "says", "next_step"),
    [
        (["v2"], "tiny:latest is v2 already", "specialist list tiny"),
        (["v9"], "v9 of tiny does not exist", "There are: v1, v2."),
    ],
)
def test_a_rollback_that_makes_no_sense_is_refused(
    two: None, ollama: Ollama, arguments: list[str], says: str, next_step: str
) -> None:
    tags = ollama.tags()
    told = refused("rollback", "tiny", *arguments)
    assert says in told and next_step in told
    assert ollama.tags() == tags


def test_a_rollback_to_what_is_not_there_any_more_is_refused(two: None, ollama: Ollama) -> None:
    ollama.copy("tiny:v2", "tiny:v1")
    tags = ollama.tags()
    assert "tiny:v1 is another model now" in refused("rollback", "tiny", "v1")
    assert "there is no version of tiny before v2" in refused("rollback", "tiny")
    ollama.delete("tiny:v1")
    assert "tiny:v1 is gone from Ollama" in refused("rollback", "tiny", "v1")
    assert "there is no specialist tinny" in refused("rollback", "tinny")
    assert ollama.tags() == {name: tags[name] for name in tags if name != "tiny:v1"}


def test_a_model_that_was_not_made_here_is_not_rolled_back_over(
    two: None, ollama: Ollama, fake: FakeOllama
) -> None:
    fake.models["tiny:latest"] = {**fake.models["tiny:v1"], "system": "By hand."}
    tags = ollama.tags()
    assert "(ollama cp tiny OTHER), remove it (ollama rm tiny)" in refused("rollback", "tiny", "v1")
    assert ollama.tags() == tags
    ollama.delete("tiny")  # the way out
    assert "tiny serves v2 again:  " in said("rollback", "tiny")


def test_what_was_served_keeps_a_tag_although_its_own_was_removed_by_hand(
    two: None, ollama: Ollama
) -> None:
    served = ollama.digest("tiny")
    ollama.delete("tiny:v2")
    said("rollback", "tiny", "v1")
    assert ollama.digest("tiny:v2") == served
    ollama.copy("tiny:v2", "tiny:v1")
    said("rollback", "tiny", "v2")
    assert ollama.digest("tiny:v1") == served
    assert ollama.digest("tiny:v3") == history.known("tiny").versions[0].manifest
    assert [version.label for version in history.known("tiny").versions] == ["v1", "v2", "v3"]


@pytest.mark.parametrize("step", range(2))
def test_killed_in_a_rollback_what_is_served_is_known(
    two: None, first: Specialist, ollama: Ollama, step: int
) -> None:
    tags = ollama.tags()
    with killed_at(step) as death:
        rollback("tiny", ollama, None, print)
    assert death.came
    now = "v1" if step else "v2"
    assert f"tiny  {now} " in said("list")
    assert "already" in refused("rollback", "tiny", now)
    assert bool(nothing_to_do(first, ollama, print)) == bool(step)
    assert history.known("tiny").current.label == now
    served = first.system if step else "Be long."
    assert f"SYSTEM {served}" in history.file("tiny", "Modelfile").read_text()
    assert {**ollama.tags(), "tiny:latest": ""} == {**tags, "tiny:latest": ""}


def test_a_removed_version_goes_from_ollama_and_its_number_is_not_used_again(
    two: None, first: Specialist, second: Specialist, ollama: Ollama
) -> None:
    assert "tiny:v2 is what tiny serves" in refused("remove", "tiny", "v2")
    assert "7 stages in use" in said("gc")
    assert "tiny:v1 is removed; " in said("remove", "tiny", "v1")
    assert sorted(ollama.tags()) == ["tiny:latest", "tiny:v2"]
    assert said("list", "tiny").splitlines()[1].endswith("  removed")
    assert "5 stages in use" in said("gc")
    assert second.data.path.exists()
    assert not first.data.path.exists()  # what both were made of is left
    assert "v1 of tiny was removed" in refused("remove", "tiny", "v1")
    assert "There are: v2." in refused("rollback", "tiny", "v1")
    ollama.delete("tiny:v2")
    ollama.delete("tiny:latest")
    assert "is what tiny serves" in refused("remove", "tiny", "v2")
    assert release(second, ollama).label == "v3"
    said("remove", "tiny", "v2")
    assert release(second, ollama).label == "v3"  # it is served already
    said("gc", "--forget", "tiny")
    assert not history.file("tiny", "versions").exists()


def test_what_was_served_before_a_rollback_by_hand_can_be_removed(
    two: None, ollama: Ollama
) -> None:
    ollama.copy("tiny:v1", "tiny")
    said("remove", "tiny", "v2")
    ollama.delete("tiny")
    assert "tiny serves v1 again" in said("rollback", "tiny")


def test_a_tag_that_is_another_model_by_now_is_not_removed(two: None, ollama: Ollama) -> None:
    ollama.copy("tiny:v2", "tiny:v1")
    assert "tiny:v1 in Ollama is another model, made by hand: it stays" in said(
        "remove", "tiny", "v1"
    )
    assert "tiny:v1" in ollama.tags()


@pytest.mark.parametrize("step", range(2))
def test_a_removal_that_was_killed_can_be_run_again(two: None, ollama: Ollama, step: int) -> None:
    with killed_at(step) as death:
        specialist("remove", "tiny", "v1")
    assert death.came
    said("remove", "tiny", "v1")
    assert sorted(ollama.tags()) == ["tiny:latest", "tiny:v2"]


@pytest.mark.parametrize("command", [["remove", "tiny"], ["rollback", "tiny", "latest"]])
def test_a_version_is_written_as_it_is_listed(command: list[str]) -> None:
    told = specialist(*command)
    assert told.exit_code == 2
    assert "--help" in told.stderr


def test_verify_proves_again_what_is_served(two: None, ollama: Ollama) -> None:
    tags, known = ollama.tags(), history.known("tiny")
    out = said("verify", "tiny").splitlines()
    assert out[-2].startswith("verify    20 prompts equal (")
    assert out[-1] == "tiny serves v2 as it was trained"
    said("rollback", "tiny")
    assert "tiny serves v1 as it was trained" in said("verify", "tiny")
    said("rollback", "tiny", "v2")
    assert (ollama.tags(), history.known("tiny")) == (tags, known)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"system": "By hand."}, "the prompt of rows.jsonl:9 (“"),
        ({"parameters": {}}, "tiny:latest is another model than v2, though it answers as"),
    ],
)
def test_verify_says_what_somebody_changed_by_hand(
    two: None, fake: FakeOllama, change: dict[str, object], says: str
) -> None:
    fake.models["tiny:latest"] = {**fake.models["tiny:v2"], **change}
    told = specialist("verify", "tiny")
    assert told.exit_code == 1
    assert "tiny:latest is none of its versions; it is held to v2" in told.stdout
    assert says in told.stderr
    assert "ollama rm tiny && specialist rollback tiny v2" in told.stderr


def test_verify_notices_a_damaged_file_in_ollama(two: None, fake: FakeOllama) -> None:
    fake.faults.add("other tensors")
    for stored in fake.folder.iterdir():
        stored.write_bytes(stored.read_bytes())
    assert "has other bytes in the file of Ollama" in refused("verify", "tiny")


def test_verify_names_the_stages_that_are_gone(
    two: None, second: Specialist, ollama: Ollama
) -> None:
    shutil.rmtree(second.data.path)
    told = refused("verify", "tiny")
    assert "what tiny:v2 was made of has gone from the store: data" in told
    assert "Make tiny again" in told
    ollama.delete("tiny")
    assert "specialist rollback tiny v2" in refused("verify", "tiny")
