"""A step of the set-up, and the child processes that it runs."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.common import places
from pipeline.common.errors import ToolFailed
from pipeline.setup.progress import Progress
from pipeline.tools.children import tied
from pipeline.tools.cores import cores

_ERROR = r"(?i)\berror:|\bcmake error\b|\bfatal\b|no solution"
CORES = cores()


@dataclass(frozen=True)
class Step:
    """Something that is made once, and how to see that it is there."""

    name: str
    """As people read it."""
    done: Callable[[], bool]
    """Milliseconds: asked on every run."""
    run: Callable[[Work], None]
    """Makes it; goes on with what an interrupted run left."""
    seconds: float
    """Expected on this machine."""
    needs: tuple[Callable[[], None], ...] = ()
    """Checks that raise Missing, all asked before anything long starts."""
    space: tuple[tuple[Path, float], ...] = ()
    """Where it takes how many GB."""
    beside: bool = False
    """True if it depends on no other step: it runs at the same time."""


@dataclass(frozen=True)
class Work:
    """What a running step is given: its progress, and a way to run programs."""

    step: Step
    progress: Progress
    lock: int
    """The set-up's lock: children hold it too, so that no other set-up meets one left behind."""

    @property
    def log(self) -> Path:
        """Everything that the step's programs said."""
        return places.cache_home() / "logs" / f"{self.step.name.replace(' ', '-')}.log"

    def child(self, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        """Run a program to its end, its output in the step's log.

        Lines that start as ninja's `[3/120]` move the progress.

        Raises:
            ToolFailed: it failed; the line that tells why, and where the log is.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(map(str, command))}\n")
            log.flush()
            with subprocess.Popen(
                tied([str(part) for part in command]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, **(env or {})},
                pass_fds=(self.lock,),
            ) as process:
                said = self._listen(process, log.write)
        if process.returncode != 0:
            raise ToolFailed(
                f"{self.step.name}: {Path(command[0]).name} failed: {_reason(said)}",
                f"The whole log: {self.log}\nRun it again to go on from here.",
            )

    def _listen(self, process: subprocess.Popen[str], write: Callable[[str], object]) -> list[str]:
        said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            write(line)
            said.append(line.strip())
            if count := re.match(r"\[(\d+)/(\d+)\] ", line):
                self.progress.at(self.step.name, int(count[1]), int(count[2]))
        return said


def _reason(said: list[str]) -> str:
    """The first line that names an error, else the last one."""
    named = (line for line in said if re.search(_ERROR, line))
    return next(named, next((line for line in reversed(said) if line), "it said nothing"))[:300]
