"""A store of before records had formats: read, taken over, never a trace and never a loss.

`golden/old-store` was written by the specialist of before (stages fetch 2, prepare 1, tune 1,
pack 2), with a released specialist of a tiny random base.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from taken_in import taken_in

from pipeline import chain, plan
from pipeline.bases.reference import Original, Reference
from pipeline.cli import commands as cli
from pipeline.common import places
from pipeline.common.values import digest_of
from pipeline.intake.source import locate
from pipeline.made import sealed
from pipeline.made.artifacts import Adapter, Base, Dataset, Packed, Specialist
from pipeline.made.conversations import Conversations
from pipeline.release import held_out, history, ours
from pipeline.run.child_process import ChildProcess
from pipeline.run.store import Store
from pipeline.spec.spec import read as read_spec
from pipeline.stages import fetch, pack, prepare, tune
from pipeline.stages.preparing.split import PARTS
from pipeline.stages.settings import Fetch, Pack, Prepare, Tune

GOLDEN = Path(__file__).parent / "golden/old-store"
KINDS = {"fetch": Base, "prepare": Dataset, "tune": Adapter, "pack": Packed}
STAGES = sorted(path.name for path in GOLDEN.glob("stages/*"))


@pytest.fixture
def old() -> Path:
    """The old store, as this machine's."""
    return Path(shutil.copytree(GOLDEN, places.home()))


def the(stage: str, old: Path) -> Path:
    [path] = old.glob(f"stages/{stage}-*")
    return path


def reference(old: Path) -> Reference:
    record = json.loads((the("fetch", old) / "record.json").read_text())
    [digest] = record["key"]["inputs"]
    facts = {"architecture": "LlamaForCausalLM", "parameters": 19456, "context": 4096}
    return Reference(
        origin="directory",
        format="huggingface",
        name="tiny-random",
        digest=digest,
        path=Path("/nowhere"),
        files={},
        **facts,
    )


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """The rows that it was trained on."""
    turns = [
        [{"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": "No."}]
        for n in range(48)
    ]
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"messages": row}) + "\n" for row in turns)
    )
    return tmp_path / "rows.jsonl"


def artifacts(old: Path) -> tuple[Base, Dataset, Adapter, Packed]:
    base, data, adapter, gguf = (
        sealed.load(kind, the(stage, old)) for stage, kind in KINDS.items()
    )
    assert base and data and adapter and gguf
    return base, data, adapter, gguf


def tuned(settings: Tune, base: Base, data: Dataset) -> list[str]:
    return tune.STAGE.names(settings, {"base": base, "data": data})


@pytest.mark.parametrize("name", STAGES)
def test_a_directory_is_called_as_its_key_says(old: Path, name: str) -> None:
    key = json.loads((old / "stages" / name / "record.json").read_text())["key"]
    assert name == f"{key['stage']}-{digest_of(key)[:16]}"


def test_what_was_fetched_and_trained_is_found_by_todays_keys(old: Path) -> None:
    """Golden: whoever changes these keys lets all users fetch or train again."""
    base, data, adapter, _ = artifacts(old)
    store = Store()
    settings = Tune.model_validate(sealed.read(adapter.path).key.settings)
    assert store.first(Base, fetch.STAGE.names(Fetch(), {"base": reference(old)})) == base
    assert store.first(Adapter, tuned(settings, base, data)) == adapter


def test_a_base_that_held_its_folders_name_is_used_and_not_fetched_again(old: Path) -> None:
    """fetch 2 wrote the name into the template's comment and the GGUF's keys."""
    base = artifacts(old)[0]
    assert "tiny-random" in base.template
    moved = reference(old).model_copy(update={"name": "called-otherwise-now"})
    engine = ChildProcess()
    assert engine.do(fetch.STAGE, Fetch(), base=moved) == base
    assert engine.touched == [base.path.name]
    assert fetch.STAGE.names(Fetch(), {"base": moved})[0] != base.path.name


def test_rows_are_prepared_again_and_what_the_old_release_trained_is_not_tested(
    old: Path, rows: Path
) -> None:
    """Its record does not tell what it trained, the store does."""
    base, data, _, _ = artifacts(old)
    again = prepared_today(base, taken_in(rows))
    trained = held_out.names(data, "train")
    assert len(trained) == 43
    assert held_out.names(again, "test") == held_out.names(data, "test") | held_out.names(
        data, "validation"
    )
    assert not held_out.names(again, "test") & trained


def prepared_today(base: Base, rows: Conversations) -> Dataset:
    before = held_out.not_tested(history.history("tiny"), rows, Store())
    settings = Prepare(system="Be brief.", skip_long=False, not_tested=before)
    return ChildProcess().do(prepare.STAGE, settings, base=base, data=rows)


def test_what_only_packing_reads_of_a_base_trains_nobody_again(old: Path, tmp_path: Path) -> None:
    """A newer llama.cpp may write another key into vocab.gguf."""
    base, data, _, _ = artifacts(old)
    settings = Tune.model_validate(sealed.read(the("tune", old)).key.settings)
    folder = Path(shutil.copytree(base.path, tmp_path / "base"))
    facts = base.model_dump(exclude={"path", "digest"})
    for name in ("vocab.gguf", "outline.json"):
        with (folder / name).open("ab") as file:
            file.write(b" ")
    other = Base.at(folder, **facts)
    assert other.digest != base.digest
    assert tuned(settings, other, data)[0] == tuned(settings, base, data)[0]
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    changed = Base.at(folder, **facts)
    assert tuned(settings, changed, data)[0] != tuned(settings, base, data)[0]


def test_an_input_that_is_the_same_is_no_difference_in_the_plan(old: Path) -> None:
    base, data, adapter, _ = artifacts(old)
    settings = Tune.model_validate(sealed.read(adapter.path).key.settings)
    more = settings.model_copy(update={"epochs": 31})
    why = plan._difference(Store(), tune.STAGE, more, {"base": base, "data": data})
    assert why == "epochs: 30 → 31"


def test_the_plan_says_what_differs(
    old: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "resolve", lambda *_: reference(old))
    monkeypatch.setattr(chain, "resolve", lambda *_: reference(old))
    (tmp_path / "tiny.Modelfile").write_text("FROM ./tiny-random\nSYSTEM Be brief.\n")
    made = plan.plan(read_spec("tiny", tmp_path), locate(rows), ChildProcess())
    assert [(step.stage, step.state) for step in made.steps][:3] == [
        ("intake", "ready"),
        ("fetch", "ready"),
        ("prepare", "runs"),
    ]
    assert [step.why for step in made.steps[2:]] == [
        "not_tested: None → 43 rows, version of the stage: 1 → 3",
        "uses what prepare makes",
        "uses what tune makes",
    ]


def test_a_plan_in_which_the_last_stage_alone_runs(
    old: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plan, chain):
        monkeypatch.setattr(module, "resolve", lambda *_: reference(old))
    (tmp_path / "tiny.Modelfile").write_text("FROM ./tiny-random\nSYSTEM Be brief.\n")
    base, data, _, _ = artifacts(old)
    today = prepared_today(base, taken_in(rows))
    for part in PARTS:  # as if it split as before
        shutil.copy(data.path / f"{part}.jsonl", today.path)
    record = json.loads((today.path / "record.json").read_text())
    sizes = {file.name: file.stat().st_size for file in data.path.glob("*.jsonl")}
    artifact = data.model_dump(mode="json", exclude={"path"})
    (today.path / "record.json").write_text(
        json.dumps({**record, "artifact": artifact, "files": sizes})
    )
    sets = ("tune.epochs=30", "tune.learning_rate=0.02", "tune.keep=0")
    made = plan.plan(read_spec("tiny", tmp_path, sets=sets), locate(rows), ChildProcess())
    assert [step.state for step in made.steps] == ["ready"] * 4 + ["runs"]
    assert made.steps[4].why == "version of the stage: 2 → 3"
    assert made.parts == {"train": 43, "validation": 3, "test": 2}


def test_a_record_with_fewer_inputs_than_today_stops_no_plan(old: Path) -> None:
    """The first version of pack did not read the data."""
    base, data, adapter, gguf = artifacts(old)
    record = json.loads((gguf.path / "record.json").read_text())
    record["key"]["inputs"].pop()
    record["key"]["version"] = 1
    (gguf.path / "record.json").write_text(json.dumps(record))
    inputs = {"base": base, "adapter": adapter, "data": data, "original": Original()}
    why = plan._difference(Store(), pack.STAGE, Pack(quantization="Q8_0"), inputs)
    assert f"version of the stage: 1 → {pack.STAGE.version}" in why


def test_the_release_is_read_listed_and_known_as_the_same(old: Path) -> None:
    record = history.known("tiny").current
    assert record.stages == sorted(STAGES, key=record.stages.index)
    base, data, adapter, gguf = artifacts(old)
    made = Specialist(
        name="tiny",
        base=base,
        data=data,
        adapter=adapter,
        packed=gguf,
        system="Be brief.",
        parameters={"temperature": 0.0, "seed": 7, "num_ctx": 4096},
        license="CC0-1.0\n",
    )
    assert ours.wanted(made) == record.wanted  # golden: else all are registered again
    listed = CliRunner().invoke(cli.main, ["list"])
    assert listed.exit_code == 0
    line = "tiny  v2       tiny-random  88d2bead  48    4.849"
    assert listed.output.splitlines()[1].startswith(line)


def test_gc_keeps_all_that_the_release_was_made_of(old: Path) -> None:
    told = CliRunner().invoke(cli.main, ["gc"])
    assert told.exit_code == 0
    assert told.output.splitlines()[-1] == "0 MB freed, 4 stages in use"
    assert sorted(path.name for path in (old / "stages").iterdir()) == STAGES


@pytest.mark.parametrize("name", STAGES)
def test_a_file_that_was_cut_short_is_seen_although_no_sizes_were_noted(
    old: Path, name: str
) -> None:
    kind = KINDS[name.partition("-")[0]]
    path = old / "stages" / name
    assert sealed.load(kind, path)
    largest = max(path.glob("*.*"), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    assert sealed.load(kind, path) is None
    largest.unlink()
    assert sealed.load(kind, path) is None


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -5])
def test_a_time_that_is_none_makes_no_plan_of_it(old: Path, seconds: float) -> None:
    path = the("fetch", old) / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "made": {**record["made"], "seconds": seconds}}))
    assert sealed.read(path.parent) is None


def test_a_package_that_is_no_longer_installed_is_said(old: Path) -> None:
    path = the("fetch", old) / "record.json"
    record = json.loads(path.read_text())
    made = {**record["made"], "versions": {"gone-package": "1.0"}}
    path.write_text(json.dumps({**record, "made": made}))
    assert plan._older("fetch", path.parent) == [
        "fetch was made with gone-package 1.0, installed is none"
    ]
