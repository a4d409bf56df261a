"""Training is the same for a seed, however often it is interrupted, and never changes the base."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from taken_in import taken_in

from pipeline.made.artifacts import Base
from pipeline.made.stage import Where
from pipeline.stages import prepare
from pipeline.stages.settings import Prepare, Tune
from pipeline.tools.children import QUIET

pytestmark = pytest.mark.smoke

HERE = Path(__file__).parent
SETTINGS = Tune(epochs=10, learning_rate=5e-3, rank=8, alpha=8, batch=4, load="16-bit", seed=0)
ANSWERS = ("Red.", "Green, or so I am told.", "Blue is what it is.", "No colour at all.")


@pytest.fixture(scope="module")
def found(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What interrupted.py finds: answers that cannot be guessed, so that the loss rises soon."""
    folder = tmp_path_factory.mktemp("tune")
    rows = [
        [
            {"role": "user", "content": f"Colour {n}?"},
            {"role": "assistant", "content": ANSWERS[n * n % 7 % 4]},
        ]
        for n in range(80)
    ]
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps({"messages": row}) + "\n" for row in rows)
    )
    (folder / "data").mkdir()
    data = prepare.run(
        folder / "data",
        Prepare(system="", skip_long=False),
        tiny_base,
        taken_in(folder / "rows.jsonl"),
        where=Where(),
    )
    for name, value in (("base", tiny_base), ("data", data), ("settings", SETTINGS)):
        (folder / f"{name}.json").write_text(value.model_dump_json())
    run = subprocess.run(
        [
            sys.executable,
            str(HERE / "interrupted.py"),
            *(str(folder / f"{name}.json") for name in ("base", "data", "settings")),
            str(folder),
        ],
        env={**os.environ, **QUIET, "PYTHONPATH": str(HERE.parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return {**json.loads((folder / "found.json").read_text()), "rows": data.train}


def test_it_ends_when_the_validation_loss_rises_and_keeps_the_best(found: dict[str, Any]) -> None:
    whole = found["never"]
    an_epoch = math.ceil(found["rows"] / SETTINGS.batch)
    assert whole["steps"] == (whole["epochs"] + 1) * an_epoch < SETTINGS.epochs * an_epoch


def test_the_same_seed_gives_the_same_bytes(found: dict[str, Any]) -> None:
    assert found["never, again"] == found["never"]


@pytest.mark.parametrize(
    ("when", "goes_on"),
    [
        ("before the first checkpoint", False),
        ("between two checkpoints", True),
        ("in the last step", True),
    ],
)
def test_interrupted_it_ends_with_the_same_bytes(
    found: dict[str, Any], when: str, goes_on: bool
) -> None:
    assert found[when] == {**found["never"], "goes on": goes_on}


def test_interrupted_behind_its_last_step_it_is_not_trained_further(found: dict[str, Any]) -> None:
    last = found["behind the last checkpoint"]
    assert last["steps"] <= found["never"]["steps"] + 1  # it notices at the next step
    assert {**last, "steps": 0} == {**found["never"], "steps": 0}
