"""Tokens per second of `tune` beside busy programs, which come and go during one training.

    .venv/bin/python benchmarks/neighbours.py                  # about four minutes on two cores
    .venv/bin/python benchmarks/neighbours.py --beside training  # a second training, not a loop
    .venv/bin/python benchmarks/neighbours.py --nice 10          # neighbours of a low priority

One training of the embedded base on a row that is repeated: every step is the same work. A busy
program is `while True: pass`; so many run beside as the row of the table says. Speeds are medians
of the steps behind the first ones, and shares are of the steps alone before and after. Other
programs on the machine spoil it; the last column is how many cores were busy in all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))

BESIDE = (0, 1, 0, 2, 0)  # how many, segment by segment
SETTLE = 3  # steps of a segment that are not counted
LOOP = [sys.executable, "-S", "-c", "while True: pass"]


@dataclass
class Segment:
    """Steps beside so many neighbours."""

    beside: int
    seconds: list[float] = field(default_factory=list)
    busy_cores: float = 0.0
    """Cores that were busy in all, whoever used them."""


class Schedule:
    """Starts and stops neighbours as the steps go by."""

    def __init__(self, steps: int, neighbour: list[str]) -> None:
        self.steps, self.neighbour = steps, neighbour
        self.segments: list[Segment] = []
        self.running: list[subprocess.Popen[bytes]] = []
        self.last = time.monotonic()

    def step(self, stage: str, progress: Any) -> None:
        """Told after every step."""
        now = time.monotonic()
        number = int(progress.done) - 1
        if self.segments and number % self.steps > SETTLE:
            self.segments[-1].seconds.append(now - self.last)
        if number % self.steps == 0:
            self.stop()
            if number // self.steps < len(BESIDE):
                self.segments.append(Segment(BESIDE[number // self.steps]))
                for _ in range(self.segments[-1].beside):
                    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                    self.running.append(subprocess.Popen(self.neighbour, **quiet))  # type: ignore[call-overload]
                self.since = busy()
        self.last = time.monotonic()

    def stop(self) -> None:
        """End the neighbours, and note how busy the machine was meanwhile."""
        if self.segments and not self.segments[-1].busy_cores:
            wall, total = (now - then for now, then in zip(busy(), self.since, strict=True))
            self.segments[-1].busy_cores = total / wall
        for process in self.running:
            process.kill()
            process.wait()
        self.running.clear()


def busy() -> tuple[float, float]:
    """The time, and the seconds that all cores were busy since the machine's start."""
    ticks = Path("/proc/stat").read_text().splitlines()[0].split()
    return time.monotonic(), sum(int(ticks[i]) for i in (1, 2, 3, 6, 7)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Prepare, train once, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="of a segment")
    parser.add_argument("--beside", choices=("loop", "training"), default="loop")
    parser.add_argument("--nice", type=int, default=0, help="of the neighbours")
    parser.add_argument("--neighbour", action="store_true", help="train and say nothing, for ever")
    arguments = parser.parse_args()

    from pipeline.run.child_process import ChildProcess
    from pipeline.run.engine import Watcher
    from pipeline.run.store import Store
    from pipeline.stages import tune

    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    steps = 10**4 if arguments.neighbour else arguments.steps * len(BESIDE) + 1
    base, data, settings, tokens = one_row(folder, steps)
    if arguments.neighbour:
        ChildProcess(Store(folder)).do(tune.STAGE, settings, base=base, data=data)
        return
    another = [sys.executable, str(Path(__file__)), "--neighbour"]
    niced = ["nice", "-n", str(arguments.nice)]
    neighbour = [*niced, *(LOOP if arguments.beside == "loop" else another)]
    schedule = Schedule(arguments.steps, neighbour)
    print(f"{tokens} tokens a step, {arguments.steps} steps a line, load {os.getloadavg()[0]:.1f}")
    try:
        engine = ChildProcess(Store(folder), Watcher(report=schedule.step))
        engine.do(tune.STAGE, settings, base=base, data=data)
    finally:
        schedule.stop()
    table(schedule.segments, tokens)


def table(segments: list[Segment], tokens: int) -> None:
    """Print a line for each segment."""
    paces = [tokens / statistics.median(segment.seconds) for segment in segments]
    alone = statistics.mean(p for p, s in zip(paces, segments, strict=True) if not s.beside)
    print("beside  tokens/s  of alone  busy cores in all")
    for segment, pace in zip(segments, paces, strict=True):
        print(f"{segment.beside:6} {pace:9.0f} {pace / alone:9.0%} {segment.busy_cores:18.2f}")


def one_row(folder: Path, steps: int) -> tuple[Any, Any, Any, int]:
    """Base, data of one middling row as often as needed, settings, tokens of a step."""
    from pipeline.bases.reference import resolve
    from pipeline.chain import take_in
    from pipeline.intake.source import locate
    from pipeline.made.artifacts import Dataset
    from pipeline.run.child_process import ChildProcess
    from pipeline.spec import spec
    from pipeline.stages import fetch, prepare
    from pipeline.stages.settings import settings

    asked = spec.read("brand-voice", PROJECT / "modelfiles", sets=("tune.epochs=1",))
    engine = ChildProcess()
    taken = take_in(locate(PROJECT / "data/brand-voice.jsonl"), engine)
    reference = resolve(asked.base, asked.beside)
    chosen = settings(asked, taken.statistics, reference)
    base = engine.do(fetch.STAGE, chosen.fetch, base=reference)
    prepared = engine.do(prepare.STAGE, chosen.prepare, base=base, data=taken)
    rows = sorted(prepared.each("train"), key=lambda row: len(row["sequences"][0]["ids"]))
    row = rows[len(rows) // 2]
    length, batch = len(row["sequences"][0]["ids"]), chosen.tune.batch
    made = folder / "data"
    made.mkdir()
    (made / "train.jsonl").write_text((json.dumps(row) + "\n") * (batch * steps))
    for part in ("validation", "test"):
        (made / f"{part}.jsonl").write_text("")
    count = batch * steps
    data = Dataset.at(
        made,
        rows=count,
        train=count,
        validation=0,
        test=0,
        tokens=count * length,
        longest=length,
        longest_answer=length,
        uses_system=True,
    )
    return base, data, chosen.tune, batch * length


if __name__ == "__main__":
    main()
