"""What every engine keeps to, in a process of its own or in this one; and a stage that is added."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy
from engines import InProcess, prepared
from taken_in import taken_in

from pipeline.common.errors import BadInput
from pipeline.made.artifacts import Base
from pipeline.made.conversations import Conversations
from pipeline.made.stage import NotMade, Stage
from pipeline.plan import Dry
from pipeline.run import child_process
from pipeline.run.child_process import ChildProcess
from pipeline.run.engine import Engine, Job, Watcher
from pipeline.run.store import Store
from pipeline.stages import prepare
from pipeline.stages.settings import Prepare
from pipeline.tools import children

PLAIN = Prepare(system="", skip_long=False)
Make = Callable[..., Engine]


@pytest.fixture(params=[ChildProcess, InProcess])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    def with_toy(more: dict[str, str]) -> dict[str, str]:
        return {**children.environment(more), "PYTHONPATH": str(Path(__file__).parent)}

    monkeypatch.setattr(child_process, "environment", with_toy)
    engine: Make = request.param
    return engine


@pytest.fixture
def rows(tmp_path: Path) -> Conversations:
    return written(tmp_path / "rows.jsonl", "Yes")


def written(path: Path, answer: str) -> Conversations:
    turns = [
        [{"role": "user", "content": f"Question {n}"}, {"role": "assistant", "content": answer}]
        for n in range(12)
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in turns))
    return taken_in(path)


def test_what_was_made_is_found_again_by_whichever_engine(
    make: Make, tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    told: list[str] = []
    watcher = Watcher(
        ready=lambda stage: told.append(f"{stage} ready"),
        start=lambda stage: told.append(f"{stage} …"),
        done=lambda stage, seconds: told.append(f"{stage} done"),
    )
    engine = make(Store(tmp_path), watcher)
    first = engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    for other in (ChildProcess, InProcess):
        again = other(Store(tmp_path), watcher)
        assert again.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows) == first
        assert again.touched == engine.touched == [first.path.name]
    assert told == ["prepare …", "prepare done", "prepare ready", "prepare ready"]


def test_all_engines_make_the_same(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    one, other = (
        kind(Store(tmp_path / kind.__name__)).do(
            prepare.STAGE, PLAIN, base=smallest_base, data=rows
        )
        for kind in (ChildProcess, InProcess)
    )
    assert one.path.name == other.path.name
    assert one.digest == other.digest


def test_an_error_arrives_as_it_was_raised_and_leaves_no_directory(
    make: Make, tmp_path: Path, smallest_base: Base
) -> None:
    bad = written(tmp_path / "bad.jsonl", f"Yes {smallest_base.bos_text}")
    with pytest.raises(BadInput, match=r"bad\.jsonl:1") as error:
        make(Store(tmp_path)).do(prepare.STAGE, PLAIN, base=smallest_base, data=bad)
    assert error.value.next_step
    assert not [path for path in (tmp_path / "stages").iterdir() if path.is_dir()]


def test_what_the_stage_says_and_reports_is_passed_on(
    make: Make, tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    said: list[tuple[str, str]] = []
    watcher = Watcher(say=lambda stage, line: said.append((stage, line)))
    make(Store(tmp_path), watcher).do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    assert all(stage == "prepare" for stage, _ in said)
    assert any("rows to train on" in line for _, line in said)


def test_a_job_is_plain_and_names_nothing_of_this_machine(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    jobs: list[Job] = []

    class Noting(InProcess):
        def run(self, stage: Stage[Any], job: Job) -> None:
            jobs.append(job)
            super().run(stage, job)

    engine = Noting(Store(tmp_path))
    data = engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    engine.do(toy.STAGE, toy.Count(letters="ey"), data=data)
    for job in jobs:
        text = job.model_dump_json()
        assert Job.model_validate_json(text) == job
        assert str(tmp_path) not in text and "/" not in text
    assert jobs[1].inputs == {"data": data.path.name}


# A stage is a module, its artifact, its settings, and a line in the chain.


def toy_chain(engine: Engine, base: Base, rows: Conversations, letters: str = "ey") -> toy.Counted:
    data = engine.do(prepare.STAGE, PLAIN, base=base, data=rows)
    return engine.do(toy.STAGE, toy.Count(letters=letters), data=data)


def test_a_toy_stage_needs_no_line_anywhere_else(
    make: Make, tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    engine = make(Store(tmp_path))
    counted = toy_chain(engine, smallest_base, rows)
    assert counted.found == 12 * 2  # an e in each question, one in each answer
    assert [name.partition("-")[0] for name in engine.touched] == ["prepare", "toy"]
    removed = Store(tmp_path).sweep(lambda: set(engine.touched[:1]))
    assert [name for name, _ in removed] == [counted.path.name]


def test_its_plan_is_the_same_chain_run_dry(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    store = Store(tmp_path)

    def planned(letters: str = "ey") -> list[tuple[str, str, str]]:
        dry = Dry(InProcess(store))
        with suppress(NotMade):
            assert toy_chain(dry, smallest_base, rows, letters).found
        return [(step.stage, step.state, step.why) for step in dry.steps]

    assert planned() == [
        ("prepare", "runs", "never made"),
        ("toy", "runs", "uses what prepare makes"),
    ]
    toy_chain(InProcess(store), smallest_base, rows)
    assert planned() == [("prepare", "ready", ""), ("toy", "ready", "")]
    assert planned("x")[1] == ("toy", "runs", "letters: ey → x")
    shutil.rmtree(store.path(prepared(PLAIN, smallest_base, rows)))
    assert [state for _, state, _ in planned()] == ["runs", "runs"]


def test_an_earlier_version_is_taken_over_where_the_stage_says_so(
    make: Make, tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    before = prepare.STAGE
    first = make(Store(tmp_path)).do(before, PLAIN, base=smallest_base, data=rows)
    after = replace(before, version=before.version + 1, takes_over=(before.version,))
    again = make(Store(tmp_path))
    assert again.do(after, PLAIN, base=smallest_base, data=rows) == first
    assert again.touched == [first.path.name]
    anew = replace(after, takes_over=())
    other = make(Store(tmp_path)).do(anew, PLAIN, base=smallest_base, data=rows)
    assert other.path != first.path
    names = after.names(PLAIN, {"base": smallest_base, "data": rows})
    assert names == [other.path.name, first.path.name]  # its own first


def test_a_directory_that_an_earlier_key_named_is_found_under_its_name(
    make: Make,
    tmp_path: Path,
    smallest_base: Base,
    rows: Conversations,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Base, "PURPOSES", {"training": ("config.json",)})
    engine = make(Store(tmp_path))
    first = engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    narrower = replace(prepare.STAGE, reads={"base": "training"})
    again = make(Store(tmp_path))
    assert again.do(narrower, PLAIN, base=smallest_base, data=rows) == first
    assert again.touched == [first.path.name]
    assert narrower.names(PLAIN, {"base": smallest_base, "data": rows})[0] != first.path.name
