"""A rate that explodes is stopped where it does; very long rows never make one huge pass."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from taken_in import taken_in
from tiny import tiny_base_directory

from pipeline.bases.reference import resolve
from pipeline.common.errors import ToolFailed
from pipeline.made.artifacts import Base, Dataset
from pipeline.made.stage import Where
from pipeline.run.child_process import ChildProcess
from pipeline.run.store import Store
from pipeline.stages import fetch, prepare, tune
from pipeline.stages.settings import STEP_TOKENS, Fetch, Prepare, Tune
from pipeline.tools.children import QUIET

pytestmark = pytest.mark.smoke

HERE = Path(__file__).parent
SETTINGS = Tune(epochs=1, learning_rate=1e-3, rank=8, alpha=8, batch=8, load="16-bit", seed=0)


def prepared(folder: Path, base: Base, rows: list[tuple[str, str]]) -> Dataset:
    folder.mkdir()
    path = folder / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for question, answer in rows:
            turns = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
    settings, source = Prepare(system="", skip_long=False), taken_in(path)
    return prepare.run(folder, settings, base, source, where=Where())


@pytest.mark.parametrize(("rows", "validated"), [(80, True), (30, False)])
def test_a_rate_that_explodes_ends_at_that_step_and_nothing_is_finished(
    rows: int, validated: bool, tiny_base: Base, tmp_path: Path
) -> None:
    data = prepared(
        tmp_path / "d", tiny_base, [(f"Colour {n}?", "Red, or so.") for n in range(rows)]
    )
    assert bool(data.validation) == validated
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30, "batch": 2, "epochs": 10})
    engine = ChildProcess(Store(tmp_path / "store"))
    for _ in range(2):  # run again, it ends alike: no checkpoint holds the NaN
        with pytest.raises(ToolFailed, match=r"is (nan|inf) at step \d+ of") as error:
            engine.do(tune.STAGE, settings, base=tiny_base, data=data)
        found = re.search(r"step (\d+) of (\d+)", str(error.value))
        assert found and int(found[1]) <= 4 < int(found[2])
        assert "--set tune.learning_rate=2e+29" in error.value.next_step
        assert not list(tmp_path.glob("store/stages/tune-*/record.json"))
        assert not list((tmp_path / "store").rglob("adapter_model.safetensors"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of 300 short rows and eight of about 6,000 tokens (2,000 Chinese characters); of 60 short."""
    folder = tmp_path_factory.mktemp("passes")
    directory = tiny_base_directory(folder / "tiny")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
    (folder / "base").mkdir()
    base = fetch.run(folder / "base", Fetch(), resolve(str(directory), Path("/")), where=Where())
    rows = [(f"Colour {n}?", "Red, or so I am told. " * (1 + n % 5)) for n in range(300)]
    long = [(f"Long {n}?", "颜色很多。" * 400) for n in range(8)]
    data = {
        "mixed": prepared(folder / "mixed rows", base, rows + long),
        "short": prepared(folder / "short rows", base, rows[:60]),
    }
    for name, value in (("base", base), ("settings", SETTINGS), *data.items()):
        (folder / f"{name}.json").write_text(value.model_dump_json())
    jobs = [f"mixed:mixed:{STEP_TOKENS}", f"whole:short:{STEP_TOKENS}", "parts:short:200"]
    run = subprocess.run(
        [sys.executable, str(HERE / "passes.py"), str(folder), *jobs],
        env={**os.environ, **QUIET, "PYTHONPATH": str(HERE.parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    read: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return read


def test_no_pass_is_larger_than_the_bound_or_a_row(found: dict[str, Any]) -> None:
    for rows, width in found["mixed"]["passes"]:
        assert rows == 1 or rows * width <= STEP_TOKENS
    assert sum(width > 5500 for _, width in found["mixed"]["passes"]) >= 5
    assert any(rows == SETTINGS.batch for rows, _ in found["mixed"]["passes"])


def test_in_several_passes_a_step_learns_the_same(found: dict[str, Any]) -> None:
    assert len(found["parts"]["passes"]) > 2 * len(found["whole"]["passes"])
    logs = [found[name]["log"] for name in ("whole", "parts")]
    assert len(logs[0]) == len(logs[1])
    for one, other in zip(*logs, strict=True):
        for name in {"loss", "grad_norm", "eval_loss"} & one.keys():
            assert one[name] == pytest.approx(other[name], rel=0.02), one
