"""As many threads as other programs leave cores, looked at again and again.

A layer's threads wait for each other thousands of times a step. Where one of them shares its core
with another program, all wait for it each time it is not its turn: two threads beside one busy
program are slower than one thread. So a thread is given up for each core that others keep busy,
and taken back when they go. The count changes nothing but the time.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOOK = 1.0  # seconds between two looks: the kernel counts in hundredths
WAITED = 0.06  # of a core: a program of low priority takes a tenth, and all wait for it
TOLERATED = 0.4  # of a core: a program that takes less than this costs less than a thread does
COUNTED = (1, 2, 3, 6, 7)  # user, nice, system, irq, softirq: fields of a line of /proc/stat


class Neighbours:
    """Counts what other processes take of the cores that this one may run on."""

    def __init__(self, threads: int, root: Path = Path("/")) -> None:
        """`threads` at most; `root` is where /proc begins."""
        self.most = threads
        self.threads = threads
        self.root = root / "proc"
        self.cpus = {f"cpu{n}" for n in os.sched_getaffinity(0)}
        self.since = self._now()

    def look(self) -> int:
        """How many threads to use from now on, 1 to `most`. Costs nothing within a second."""
        if time.monotonic() - self.since.when < LOOK:
            return self.threads
        then, now = self.since, self._now()
        self.since, passed = now, now.when - then.when
        others = (now.busy - then.busy - (now.ours - then.ours)) / passed
        left = math.floor(len(self.cpus) - max(0.0, others) + TOLERATED)
        if min(others, (now.waited - then.waited) / passed) > WAITED:
            left = min(left, self.threads - 1)  # somebody has little of a core, but often
        self.threads = max(1, min(self.most, left))
        return self.threads

    def _now(self) -> _Moment:
        return _Moment(time.monotonic(), self._busy(), time.process_time(), self._waited())

    def _busy(self) -> float:
        try:
            lines = [line.split() for line in (self.root / "stat").read_text().splitlines()]
        except OSError:  # no such file in this sandbox: nobody is seen
            return 0.0
        ticks = sum(int(line[i]) for line in lines if line[0] in self.cpus for i in COUNTED)
        return ticks / os.sysconf("SC_CLK_TCK")

    def _waited(self) -> float:
        """Documentation/scheduler/sched-stats.rst: nanoseconds, the second of three numbers."""
        total = 0
        for thread in self.root.glob("self/task/*/schedstat"):
            with suppress(OSError, ValueError, IndexError):  # it ended, or the kernel counts none
                total += int(thread.read_text().split()[1])
        return total / 1e9


@dataclass(frozen=True)
class _Moment:
    """Seconds since some start."""

    when: float
    busy: float
    """That our cores were busy, summed."""
    ours: float
    """Of these, those for us."""
    waited: float
    """That our threads could have run and had no core."""


def making_way(threads: int) -> Any:
    """A callback: torch computes with as many threads as others leave cores."""
    import torch
    from transformers import TrainerCallback

    class MakingWay(TrainerCallback):  # type: ignore[misc]
        """Looks between two passes: a backward pass on a CPU runs in the thread that calls."""

        neighbours = Neighbours(threads)

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.neighbours = Neighbours(threads)

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if (wanted := self.neighbours.look()) != torch.get_num_threads():
                torch.set_num_threads(wanted)

        on_substep_end = on_prediction_step = on_step_begin

    return MakingWay()
