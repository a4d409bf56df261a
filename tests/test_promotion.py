"""NAME moves as a whole or not at all, wherever a run is killed, and loses nothing on the way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from deadly import killed_at
from made import specialist

from pipeline.cli import commands as cli
from pipeline.common.errors import BadInput, ProofFailed, Stopped, ToolFailed
from pipeline.common.values import digest_of_file
from pipeline.made.artifacts import Specialist
from pipeline.made.stage import Where
from pipeline.release import history, ours, promotion
from pipeline.release import publish as releasing
from pipeline.release.candidate import Candidate
from pipeline.release.proof import Proof
from pipeline.release.publish import already_released, nothing_to_do, release, settle
from pipeline.release.removal import remove
from pipeline.release.rollback import rollback
from pipeline.release.verdict import Verdict
from pipeline.release.verify import verify
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.host import Address
from pipeline.tools.ollama import Ollama

STEPS = 11  # of a release: more than there are, which a test sees
MOVED = 6  # from this step on NAME has moved
ALL = ["tiny:latest", "tiny:v1", "tiny:v2", "tiny:v3"]


@pytest.fixture
def first(tmp_path: Path) -> Specialist:
    return specialist(tmp_path / "one")


@pytest.fixture
def third(tmp_path: Path) -> Specialist:
    return specialist(tmp_path / "three", system="Be odd.")


@pytest.fixture
def two(first: Specialist, ollama: Ollama, tmp_path: Path) -> None:
    """Two versions of `tiny` are registered."""
    release(first, ollama)
    release(specialist(tmp_path / "two", system="Be long."), ollama)


def labels() -> list[str]:
    return [version.label for version in history.known("tiny").versions]


def test_a_release_takes_fewer_steps_than_are_tried(two: None, third, ollama) -> None:
    with killed_at(STEPS) as death:
        release(third, ollama)
    assert not death.came and death.steps == STEPS - 1


@pytest.mark.parametrize("gone", ["", "tiny", "tiny:v2", "tiny:v1"])
@pytest.mark.parametrize("step", range(STEPS))
def test_killed_at_any_step_nothing_is_lost_and_the_next_run_completes_it(
    two: None, third: Specialist, ollama: Ollama, step: int, gone: str
) -> None:
    if gone:
        ollama.delete(gone)
    before = ollama.tags()
    with killed_at(step):
        release(third, ollama)
    assert set(before.values()) <= set(ollama.tags().values())
    assert CliRunner().invoke(cli.main, ["list", "tiny"]).exit_code == 0
    settle("tiny", ollama, lambda line: None)
    if already_released(third, ollama):
        assert step >= MOVED
    else:
        again = {"tiny:v2": before["tiny:latest"]} if gone == "tiny:v2" else {}
        assert before.items() <= ollama.tags().items() <= {**before, **again}.items()
    release(third, ollama)
    assert already_released(third, ollama)
    # the tag of what was served is made again
    assert sorted(ollama.tags()) == [tag for tag in ALL if tag != "tiny:v1" or tag != gone]
    assert labels() == ["v1", "v2", "v3"]
    assert promotion.broken_off() == []


@pytest.mark.parametrize("step", range(STEPS))
def test_a_run_that_is_killed_and_another_that_fails_leave_all_as_it_was_or_as_it_should_be(
    two: None, third: Specialist, fake: FakeOllama, ollama: Ollama, tmp_path: Path, step: int
) -> None:
    before, known = ollama.tags(), history.known("tiny")
    with killed_at(step):
        release(third, ollama)
    fake.faults.add("never done")
    with pytest.raises(ProofFailed):
        release(specialist(tmp_path / "four", system="Be even."), ollama)
    if step < MOVED:
        assert ollama.tags() == before
        assert history.known("tiny") == known
    else:
        assert sorted(ollama.tags()) == ALL
        assert history.known("tiny").current.wanted == ours.wanted(third)


@pytest.mark.parametrize("step", range(2))
def test_a_promotion_that_breaks_off_leaves_all_as_it_was(
    two: None, third: Specialist, ollama: Ollama, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    before, known = ollama.tags(), history.known("tiny")
    copy, calls = ollama.copy, iter(range(9))

    def fails(source: str, destination: str) -> None:
        if next(calls) == step:
            raise ToolFailed("no space left")
        copy(source, destination)

    monkeypatch.setattr(ollama, "copy", fails)
    with pytest.raises(ToolFailed, match="no space left"):
        release(third, ollama)
    assert ollama.tags() == before
    assert history.known("tiny") == known


def test_a_copy_that_was_not_made_is_noticed_and_taken_back(
    two: None, third: Specialist, fake: FakeOllama, ollama: Ollama
) -> None:
    before, known = ollama.tags(), history.known("tiny")
    fake.faults.add("loses copies")
    with pytest.raises(ToolFailed, match="said yes to a copy"):
        release(third, ollama)
    assert ollama.tags() == before
    assert history.known("tiny") == known


def stop(made: Specialist, candidate: Candidate, proof: Proof) -> Verdict:
    return Verdict(says="stop", reasons=("worse than v2", "and slower"), worst=("row 7",))


def test_a_verdict_that_says_stop_keeps_the_version_and_moves_nothing(
    two: None, third: Specialist, ollama: Ollama
) -> None:
    before = ollama.tags()
    with pytest.raises(Stopped) as stopped:
        release(third, ollama, judge=stop)
    assert stopped.value.what == (
        "tiny:v3 is proven, and is not served: worse than v2; and slower\n  row 7"
    )
    assert "ollama run tiny:v3" in stopped.value.next_step
    assert before.items() < ollama.tags().items()
    assert ollama.tags().keys() - before.keys() == {"tiny:v3"}
    known = history.known("tiny")
    assert (known.current.label, known.versions[-1].label) == ("v2", "v3")
    assert known.versions[-1].stopped
    assert not already_released(third, ollama)
    assert promotion.broken_off() == []
    assert "not good enough to be served" in CliRunner().invoke(cli.main, ["list", "tiny"]).output


def test_the_same_is_judged_again_without_a_second_version_or_proof(
    two: None, third: Specialist, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stopped):
        release(third, ollama, judge=stop)
    monkeypatch.setattr(releasing, "prove", None)
    with pytest.raises(Stopped, match="tiny:v3 is proven, and is not served"):
        release(third, ollama, judge=stop)
    assert labels() == ["v1", "v2", "v3"]
    version = release(third, ollama)  # with other bounds, say
    assert version.label == "v4" and not version.stopped
    assert ollama.digest("tiny") == ollama.digest("tiny:v3") == ollama.digest("tiny:v4")
    assert already_released(third, ollama)


def test_forced_it_is_served_and_the_reason_is_told(
    two: None, third: Specialist, ollama: Ollama
) -> None:
    said: list[str] = []
    where = Where(say=said.append)
    version = release(third, ollama, judge=stop, because="agreed in May", where=where)
    assert "served in spite of it: worse than v2" in said
    assert history.known("tiny").current == version and not version.stopped
    shown = CliRunner().invoke(cli.main, ["list", "tiny"]).output
    assert "served in spite of its verdict: agreed in May" in shown
    other = release(specialist(third.packed.path.parent / "good"), ollama, because="no need")
    assert other.verdict is not None and other.verdict.because == ""


def test_a_stopped_version_is_rolled_over_and_can_be_removed(
    two: None, third: Specialist, ollama: Ollama, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        release(third, ollama, judge=stop)
    release(specialist(tmp_path / "four", system="Be even."), ollama)
    with pytest.raises(BadInput, match="tiny:v3 was not to be served: worse than v2"):
        rollback("tiny", ollama, 3, print)
    assert rollback("tiny", ollama, None, print).label == "v2"
    assert remove("tiny", ollama, 3, print).label == "v3"
    assert "tiny:v3" not in ollama.tags()


def test_where_nothing_was_ever_served_nothing_is(third: Specialist, ollama: Ollama) -> None:
    with pytest.raises(Stopped):
        release(third, ollama, judge=stop)
    assert list(ollama.tags()) == ["tiny:v1"]
    for command in (["list"], ["list", "tiny"], ["list", "--json"]):
        assert CliRunner().invoke(cli.main, command).exit_code == 0
    with pytest.raises(BadInput, match="each was stopped"):
        verify("tiny", ollama)
    with pytest.raises(BadInput, match="was not to be served"):
        rollback("tiny", ollama, None, print)
    assert remove("tiny", ollama, 1, print).label == "v1"
    assert release(third, ollama).label == "v2"


@pytest.mark.parametrize("step", range(STEPS))
def test_killed_while_a_stopped_version_is_kept_nothing_is_lost(
    two: None, third: Specialist, ollama: Ollama, step: int
) -> None:
    before = ollama.tags()
    with killed_at(step), suppress(Stopped):
        release(third, ollama, judge=stop)
    settle("tiny", ollama, lambda line: None)
    assert before.items() <= ollama.tags().items()
    assert history.known("tiny").current.label == "v2"
    assert ollama.tags().keys() - before.keys() <= {"tiny:v3"}
    release(third, ollama)
    assert already_released(third, ollama)


def test_open_questions_are_said_and_recorded(third: Specialist, ollama: Ollama) -> None:
    said: list[str] = []
    asks = Verdict(says="go with open questions", reasons=("few rows",))
    version = release(third, ollama, where=Where(say=said.append), judge=lambda *given: asks)
    assert said == ["open question: few rows"]
    assert history.known("tiny").current == version
    assert version.verdict == asks


def test_a_tag_of_somebody_elses_is_never_overwritten(
    two: None, third: Specialist, ollama: Ollama
) -> None:
    ollama.copy("tiny:v1", "tiny:v7")
    ollama.copy("tiny:v1", "tiny:v20261125")  # no number of ours
    ollama.copy("tiny:v1", "tiny:v08")
    theirs = ollama.digest("tiny:v7")
    assert release(third, ollama).label == "v8"
    assert ollama.digest("tiny:v7") == theirs


def test_what_is_served_keeps_a_tag_where_somebody_took_its_own(
    two: None, third: Specialist, ollama: Ollama
) -> None:
    served = ollama.digest("tiny")
    ollama.copy("tiny:v1", "tiny:v2")
    assert release(third, ollama).label == "v4"
    assert ollama.digest("tiny:v3") == served
    assert labels() == ["v1", "v2", "v3", "v4"]


@pytest.mark.parametrize("step", range(STEPS + 2))
def test_killed_while_a_model_of_somebody_elses_is_replaced_it_is_not_lost(
    third: Specialist, first: Specialist, ollama: Ollama, step: int
) -> None:
    release(first.model_copy(update={"name": "foreign"}), ollama)
    ollama.copy("foreign", "tiny")
    theirs = ollama.digest("tiny")
    ollama.delete("foreign:latest")
    ollama.delete("foreign:v1")
    with killed_at(step):
        release(third, ollama, replace=True)
    assert theirs in ollama.tags().values()
    release(third, ollama, replace=True)
    assert labels() == ["v1", "v2"]
    assert sorted(ollama.tags()) == ["tiny:latest", "tiny:v1", "tiny:v2"]
    assert ollama.digest("tiny:v1") == theirs


def test_what_another_store_promoted_meanwhile_is_not_undone(
    first: Specialist, third: Specialist, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one comes after NAME has moved, before the first has tidied up."""
    release(first, ollama)
    tidy = promotion.undo
    calls = iter(range(9))

    def late(name: str, door: Ollama, *more: Callable[[str], None]) -> None:
        if next(calls) == 1:  # as another promotion does
            ollama.create(
                "tiny", digest_of_file(first.packed.served.path), system="Other.", parameters={}
            )
            ollama.copy("tiny", "tiny:v3")
        tidy(name, door, *more)

    monkeypatch.setattr(releasing, "undo", late)
    version = release(third, ollama)
    assert version.label == "v2"
    assert ollama.digest("tiny:v2") == version.manifest
    assert ollama.digest("tiny") == ollama.digest("tiny:v3") != version.manifest
    assert [name for name in ollama.tags() if "-" in name] == []


def test_localhost_is_the_same_server(two: None, third: Specialist, ollama: Ollama) -> None:
    before, known = ollama.tags(), history.known("tiny")
    with killed_at(MOVED - 1):
        release(third, ollama)
    with Ollama(Address("localhost", ollama.address.port)) as spelled:
        promotion.undo("tiny", spelled)
    assert (ollama.tags(), history.known("tiny")) == (before, known)


def test_a_promotion_that_broke_off_in_another_ollama_is_not_forgotten(
    two: None, first: Specialist, third: Specialist, ollama: Ollama, tmp_path: Path
) -> None:
    with killed_at(MOVED - 1):
        release(third, ollama)
    with FakeOllama(tmp_path / "elsewhere") as fake, Ollama(fake.address) as elsewhere:
        with pytest.raises(ToolFailed, match="broke off in the Ollama at") as error:
            release(first, elsewhere)
        assert f"OLLAMA_HOST={ollama.address.netloc}" in error.value.next_step
    assert promotion.noted("tiny")


@pytest.mark.parametrize("step", [MOVED - 1, MOVED])
def test_a_run_that_finds_nothing_to_do_puts_right_what_a_killed_one_left(
    first: Specialist, third: Specialist, ollama: Ollama, step: int
) -> None:
    release(first, ollama)
    with killed_at(step):
        release(third, ollama)
    told = CliRunner().invoke(cli.main, ["list"]).output
    assert "a release broke off or is going on" in told
    settle("tiny", ollama, lambda line: None)
    assert [name for name in ollama.tags() if "-" in name] == []
    assert promotion.broken_off() == []
    served = third if step == MOVED else first
    assert nothing_to_do(served, ollama, lambda line: None)


def test_gc_keeps_what_a_promotion_that_broke_off_was_about_to_name(
    two: None, third: Specialist, ollama: Ollama
) -> None:
    odd = third.model_copy(update={"stages": ("fetch-7", "pack-7")})
    with killed_at(MOVED):
        release(odd, ollama)
    assert "6 stages in use" in CliRunner().invoke(cli.main, ["gc"]).output
