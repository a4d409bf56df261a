"""A version measured, for the commands that show it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.evaluation.rivals import Evaluation
    from pipeline.made.artifacts import Specialist
    from pipeline.release.history import History
    from pipeline.release.version import Version


def measured(
    version: Version, known: History, modelfiles: Path, against: Sequence[Version] = ()
) -> tuple[Evaluation, Specialist]:
    """All that `make` measures of a candidate, of a version; and what it was made of.

    Args:
        modelfiles: folder of NAME.toml, and that a relative FROM starts from.
        against: other versions.

    Raises:
        PipelineError: what cannot be measured. Where Ollama does not answer, the rest is.
    """
    from pipeline.cli.view import view, watcher
    from pipeline.evaluation.answers.asked import of_version
    from pipeline.evaluation.rivals import evaluate
    from pipeline.release import made_of
    from pipeline.run.child_process import ChildProcess
    from pipeline.spec import spec

    rules = spec.evaluate_table(version.name, modelfiles).rules
    with view() as shown:
        engine = ChildProcess(watcher=watcher(shown))
        with engine.store.lease():
            found = evaluate(
                version,
                engine,
                [modelfiles, Path.cwd()],
                lambda line: shown.say("score", line),
                against,
                known,
            )
            made = made_of.specialist(version, engine.store)
            found = of_version(
                found,
                made,
                rules,
                lambda line: shown.say("answers", line),
                lambda progress: shown.report("answers", progress),
            )
    return found, made
