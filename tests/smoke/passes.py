"""Train the tiny base under several bounds, and look at every pass through the model.

    python passes.py FOLDER NAME:DATA:BOUND ...

FOLDER holds base.json, settings.json and DATA.json. Writes FOLDER/found.json: by name the rows and
tokens of each pass, and the trainer's log. One process, because importing takes longest.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pipeline.made.artifacts import Base, Dataset
from pipeline.made.stage import Where
from pipeline.stages import tune
from pipeline.stages.settings import Tune
from pipeline.stages.tuning import batches


def main(folder: Path, jobs: list[str]) -> None:
    """See above."""
    base = Base.model_validate_json((folder / "base.json").read_text())
    settings = Tune.model_validate_json((folder / "settings.json").read_text())
    passes: list[tuple[int, int]] = []
    log: list[dict[str, Any]] = []
    model_of, kept_of = tune._model, tune._kept

    def watched(*arguments: Any) -> tuple[Any, Any]:
        model, tokenizer = model_of(*arguments)

        def note(module: Any, args: Any, kwargs: Any) -> None:
            passes.append(tuple(kwargs["input_ids"].shape))

        model.register_forward_pre_hook(note, with_kwargs=True)
        return model, tokenizer

    def kept(trainer: Any) -> tuple[float, float | None]:
        log.extend(trainer.state.log_history)
        return kept_of(trainer)

    tune._model, tune._kept = watched, kept
    found: dict[str, Any] = {}
    for job in jobs:
        name, kind, bound = job.split(":")
        data = Dataset.model_validate_json((folder / f"{kind}.json").read_text())
        batches.STEP_TOKENS = int(bound)
        passes.clear()
        log.clear()
        (folder / name).mkdir()
        tune.run(folder / name, settings, base, data, where=Where(threads=2))
        found[name] = {"passes": list(passes), "log": list(log)}
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
