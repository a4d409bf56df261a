"""Train the tiny base whole, then with interruptions at many places, in one process.

    python interrupted.py BASE.json DATA.json SETTINGS.json FOLDER

Writes FOLDER/found.json: by name of the interruption the digest, epochs and loss of the adapter.
One process, because importing the libraries takes longer than a training.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.common.progress import Progress
from pipeline.made.artifacts import Adapter, Base, Dataset
from pipeline.made.stage import Where
from pipeline.stages import tune
from pipeline.stages.settings import Tune


class Interrupted(Exception):
    """As a kill would: nothing is tidied up after it."""


def main(base: Path, data: Path, settings: Path, folder: Path) -> None:
    """See above."""
    inputs = (
        Tune.model_validate_json(settings.read_text()),
        Base.model_validate_json(base.read_text()),
        Dataset.model_validate_json(data.read_text()),
    )

    def trained(name: str, where: Where) -> Adapter:
        out = folder / name
        out.mkdir(exist_ok=True)
        return tune.run(out, *inputs, where=where)

    def go_on(name: str, until: Callable[[Progress | str], bool]) -> dict[str, object]:
        try:
            trained(name, told(until))
        except Interrupted:
            pass
        else:
            raise AssertionError(f"{name}: not interrupted")
        said: list[str] = []
        made = trained(name, Where(say=said.append))
        return {**facts(made), "goes on": any("going on from step" in line for line in said)}

    whole = trained("whole", Where())
    last = whole.steps
    found = {
        "never": facts(whole),
        "never, again": facts(trained("again", Where())),
        "before the first checkpoint": go_on("early", at_step(2)),
        "between two checkpoints": go_on("middle", at_step(last // 2 + 1)),
        "in the last step": go_on("late", at_step(last)),
    }
    kept, tune._kept = tune._kept, stop  # after the last checkpoint, before anything is saved
    try:
        trained("end", Where())
    except Interrupted:
        tune._kept = kept
    found["behind the last checkpoint"] = facts(trained("end", Where()))
    (folder / "found.json").write_text(json.dumps(found))


def stop(trainer: object) -> tuple[float, float | None]:
    raise Interrupted


def at_step(step: int) -> Callable[[Progress | str], bool]:
    return lambda seen: isinstance(seen, Progress) and seen.done >= step


def told(until: Callable[[Progress | str], bool]) -> Where:
    """Interrupts at a progress or a line."""

    def look(seen: Progress | str) -> None:
        if until(seen):
            raise Interrupted

    return Where(report=look, say=look)


def facts(made: Adapter) -> dict[str, object]:
    return {"digest": made.digest, "loss": made.loss, "epochs": made.epochs, "steps": made.steps}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
