"""A second engine beside the child processes: by a job's JSON alone, in this very process."""

from __future__ import annotations

from typing import Any

from pipeline.made.stage import Stage, Where
from pipeline.run.engine import Engine, Job
from pipeline.run.worker import perform
from pipeline.stages import prepare
from pipeline.stages.settings import Prepare


class InProcess(Engine):
    """Makes stages here."""

    def run(self, stage: Stage[Any], job: Job) -> None:
        where = Where(
            report=lambda progress: self.watcher.report(stage.name, progress),
            say=lambda line: self.watcher.say(stage.name, line),
        )
        perform(Job.model_validate_json(job.model_dump_json()), self.store, where)


def prepared(settings: Prepare, base: Any, data: Any) -> str:
    """The name of the directory that `prepare` makes."""
    return f"prepare-{prepare.STAGE.key(settings, {'base': base, 'data': data})}"
