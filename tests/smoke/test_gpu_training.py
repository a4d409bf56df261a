"""What needs an NVIDIA GPU: `make test-gpu`. Where there is none, that command says so."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from taken_in import taken_in

from pipeline.made.artifacts import Adapter, Base, Dataset
from pipeline.run.child_process import ChildProcess
from pipeline.run.store import Store
from pipeline.stages import prepare, tune
from pipeline.stages.settings import Prepare, Tune
from pipeline.tools.device import choose

pytestmark = pytest.mark.gpu

FACTS = Tune(epochs=4, learning_rate=1e-3, rank=8, alpha=8, batch=4, load="16-bit", seed=0)


@pytest.fixture
def data(tmp_path: Path, tiny_base: Base) -> Dataset:
    rows = [
        [
            {"role": "user", "content": f"Question {n}"},
            {"role": "assistant", "content": "Yes, it is."},
        ]
        for n in range(80)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    settings = Prepare(system="", skip_long=False)
    return ChildProcess(Store(tmp_path)).do(
        prepare.STAGE, settings, base=tiny_base, data=taken_in(path)
    )


def trained(folder: Path, settings: Tune, base: Base, data: Dataset) -> Adapter:
    return ChildProcess(Store(folder), device="cuda").do(tune.STAGE, settings, base=base, data=data)


def test_the_gpu_of_this_machine_is_chosen_and_its_memory_known() -> None:
    chosen = choose("auto")
    assert chosen.device == "cuda"
    assert chosen.memory and chosen.memory > 1 << 30


@pytest.mark.parametrize("load", ["16-bit", "4-bit"])
def test_it_learns_in(load: str, tmp_path: Path, tiny_base: Base, data: Dataset) -> None:
    adapter = trained(tmp_path, FACTS.model_copy(update={"load": load}), tiny_base, data)
    first = trained(tmp_path, FACTS.model_copy(update={"load": load, "epochs": 1}), tiny_base, data)
    assert adapter.loss is not None and first.loss is not None
    assert adapter.loss < first.loss


def test_a_killed_run_goes_on_from_its_checkpoint(
    tmp_path: Path, tiny_base: Base, data: Dataset
) -> None:
    settings = FACTS.model_copy(update={"epochs": 50})
    job = (
        "import sys; from pathlib import Path; from pipeline.made.artifacts import Base, Dataset;"
        "from pipeline.stages.settings import Tune; from pipeline.stages import tune;"
        "from pipeline.run.store import Store; from pipeline.run.child_process import ChildProcess;"
        "s, b, d = (k.model_validate_json(t) for k, t in zip((Tune, Base, Dataset), sys.argv[2:]));"
        "engine = ChildProcess(Store(Path(sys.argv[1])), device='cuda');"
        "engine.do(tune.STAGE, s, base=b, data=d)"
    )
    values = [value.model_dump_json() for value in (settings, tiny_base, data)]
    run = subprocess.Popen([sys.executable, "-c", job, str(tmp_path), *values])
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("stages/tune-*.draft/checkpoints/*/whole")):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    adapter = trained(tmp_path, settings, tiny_base, data)
    assert adapter.loss is not None
