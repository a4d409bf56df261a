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
from pathlib import Path
from typing import Any

LOOK = 1.0  # seconds between two looks: the kernel counts in hundredths
TOLERATED = 0.4  # of a core: a program that takes less than this costs less than a thread does
_USER, _NICE, _SYSTEM, _IRQ, _SOFTIRQ = 1, 2, 3, 6, 7  # fields of a line of /proc/stat


class Neighbours:
    """Counts what other processes take of the cores that this one may run on."""

    def __init__(self, threads: int, root: Path = Path("/")) -> None:
        """`threads` at most; `root` is where /proc begins."""
        self.most = threads
        self.threads = threads
        self.stat = root / "proc/stat"
        self.cpus = {f"cpu{n}" for n in os.sched_getaffinity(0)}
        self.since = self._now()

    def look(self) -> int:
        """How many threads to use from now on, 1 to `most`. Costs nothing within a second."""
        began, all_then, ours_then = self.since
        if time.monotonic() - began < LOOK:
            return self.threads
        self.since = now, all_now, ours_now = self._now()
        others = ((all_now - all_then) - (ours_now - ours_then)) / (now - began)
        left = len(self.cpus) - max(0.0, others)
        self.threads = max(1, min(self.most, math.floor(left + TOLERATED)))
        return self.threads

    def _now(self) -> tuple[float, float, float]:
        """The time; the seconds that our cores were busy since the start; those for us."""
        return time.monotonic(), self._busy(), time.process_time()

    def _busy(self) -> float:
        """Without programs of a low priority: they make way by themselves, unless we are one."""
        counted = [_USER, _SYSTEM, _IRQ, _SOFTIRQ]
        if os.getpriority(os.PRIO_PROCESS, 0) > 0:
            counted.append(_NICE)
        try:
            lines = [line.split() for line in self.stat.read_text().splitlines()]
        except OSError:  # no such file in this sandbox: nobody is seen
            return 0.0
        ticks = sum(int(line[i]) for line in lines if line[0] in self.cpus for i in counted)
        return ticks / os.sysconf("SC_CLK_TCK")


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
