"""How a run looks: a live line per stage on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

from pipeline.common.progress import Progress, Shown
from pipeline.common.words import duration
from pipeline.plan import Plan, short
from pipeline.run.engine import Watcher
from pipeline.stages.preparing.telling import counted

EVERY = 15.0  # seconds between plain progress lines of one stage
WIDTH = 9  # of the stage column


class View(Shown, Protocol):
    """Shows it to a person. Use as a context manager."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: Any) -> None: ...


def view() -> View:
    """The one for where the output goes."""
    return Live() if sys.stdout.isatty() else Plain()


def watcher(shown: View) -> Watcher:
    """A store's watcher that draws on a view."""
    return Watcher(
        ready=lambda stage: shown.done(stage, "ready"),
        start=shown.start,
        report=shown.report,
        say=shown.say,
        done=lambda stage, seconds: shown.done(stage, f"done in {duration(seconds)}"),
    )


def plan_text(made: Plan) -> str:
    """The plan for people."""
    lines = [f"{made.name} from {made.base}"]
    for step in made.steps:
        if step.state == "ready":
            lines.append(f"  {step.stage:<9} ready")
        else:
            lines.append(f"  {step.stage:<9} runs, about {duration(step.seconds)}: {step.why}")
    if made.parts:
        lines.append(f"data: {counted(made.parts)}")
    lines.append("settings")
    for stage, values in made.settings.items():
        lines += [f"  {stage}.{key} = {short(value)}" for key, value in values.items()]
    lines += made.notes
    lines.append(
        f"about {duration(made.seconds)} in all, then the release"
        if made.seconds
        else "nothing to make; the release is checked against Ollama"
    )
    return "\n".join(lines)


class Plain(AbstractContextManager["Plain"]):
    """Lines for a pipe or a log: no colours, no cursor movements."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, float], tuple[float, float]] = {}  # when, how much was done
        self._last: dict[str, float] = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def say(self, stage: str, line: str) -> None:
        """A sentence about a stage."""
        print(f"{stage:<{WIDTH}} {line}", flush=True)

    def start(self, stage: str) -> None:
        """Note the time; the first progress line comes later."""
        self._last[stage] = time.monotonic()
        self.say(stage, "…")

    def report(self, stage: str, progress: Progress) -> None:
        """A line now and then, with the time left."""
        now = time.monotonic()
        # another total is another kind of work: bytes sent, then conversations compared
        began, before = self._first.setdefault((stage, progress.total), (now, progress.done))
        if now - self._last.setdefault(stage, now) < EVERY or progress.done <= before:
            return  # what came before the first report (imports, say) tells nothing of the pace
        self._last[stage] = now
        left = (now - began) * (progress.total - progress.done) / (progress.done - before)
        share = progress.done / progress.total
        note = f"  {progress.note}" if progress.note else ""
        self.say(stage, f"{share:4.0%}  about {duration(left)} left{note}")

    def done(self, stage: str, words: str) -> None:
        """The stage's last line."""
        self.say(stage, words)


class Live(AbstractContextManager["Live"]):
    """A bar per stage with time left; sentences scroll above."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        def fixed(width: int) -> Column:
            return Column(no_wrap=True, min_width=width, max_width=width)

        # the note has what is left of the line: a long one is cut, and nothing else moves
        note = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self._bars = Bars(
            SpinnerColumn(finished_text="[green]✓", table_column=fixed(1)),
            TextColumn("{task.description}", table_column=fixed(WIDTH)),
            BarColumn(bar_width=20, table_column=fixed(20)),
            TimeRemainingColumn(compact=True, table_column=fixed(7)),
            TextColumn("[dim]{task.fields[note]}", table_column=note),
            speed_estimate_period=120,
            expand=True,
        )
        self._tasks: dict[str, Any] = {}
        self._totals: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def say(self, stage: str, line: str) -> None:
        """A sentence above the bars."""
        self._bars.console.print(f"{stage:<{WIDTH}} {line}", markup=False, highlight=False)

    def start(self, stage: str) -> None:
        """A new bar."""
        self._tasks[stage] = self._bars.add_task(stage, total=None, note="")

    def report(self, stage: str, progress: Progress) -> None:
        """Move the bar."""
        if stage not in self._tasks:
            self.start(stage)
        task = self._tasks[stage]
        if self._totals.get(stage, progress.total) != progress.total:
            self._bars.reset(task, note=progress.note)  # another kind of work has another pace
        self._totals[stage] = progress.total
        self._bars.update(task, completed=progress.done, total=progress.total, note=progress.note)

    def done(self, stage: str, words: str) -> None:
        """Fill the bar."""
        if stage not in self._tasks:
            self.start(stage)
        self._bars.update(self._tasks[stage], total=1, completed=1, note=words)
