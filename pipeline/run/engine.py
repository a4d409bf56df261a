"""Where stages are made: an engine finds a finished one in the store, or runs a job.

    engine.do(pack.STAGE, settings, base=base, adapter=adapter, data=data)

A job is plain JSON without a path of this machine: whoever has the store can run it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from pipeline.common.progress import Progress
from pipeline.made import sealed
from pipeline.made.artifacts import Artifact
from pipeline.made.stage import Stage
from pipeline.run.store import Store

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class Watcher:
    """Who is told how a stage goes. The defaults drop everything."""

    ready: Callable[[str], None] = field(default=lambda stage: None)
    """This stage was made before."""
    start: Callable[[str], None] = field(default=lambda stage: None)
    report: Callable[[str, Progress], None] = field(default=lambda stage, progress: None)
    say: Callable[[str, str], None] = field(default=lambda stage, line: None)
    done: Callable[[str, float], None] = field(default=lambda stage, seconds: None)
    """The stage and how many seconds it took."""


class Job(BaseModel):
    """What is to be made, and of what."""

    model_config = ConfigDict(frozen=True)
    module: str
    """Import path of the stage's module."""
    name: str
    """Of the directory that it makes: STAGE-KEY."""
    settings: dict[str, Any]
    inputs: dict[str, str]
    """Names in the store: finished directories, and what was noted."""

    @property
    def stage(self) -> str:
        """The stage's name."""
        return self.name.rpartition("-")[0]


class Engine(ABC):
    """Makes stages; what is made already is found."""

    def __init__(self, store: Store | None = None, watcher: Watcher | None = None) -> None:
        self.store = store or Store()
        self.watcher = watcher or Watcher()
        self.touched: list[str] = []
        """Names of the stage directories that were found or made, each once, in order."""
        self.settings: dict[str, dict[str, Any]] = {}
        """Of each stage that was asked for."""

    def do(self, stage: Stage[A], settings: BaseModel, **inputs: BaseModel) -> A:
        """The artifact of a stage.

        Raises:
            PipelineError: what the stage raised.
        """
        names = stage.names(settings, inputs)
        self.settings[stage.name] = settings.model_dump(mode="json")
        with self.store.lease():
            found = self.store.first(stage.makes, names)
            if found:
                if found.path.name not in self.touched:
                    self.watcher.ready(stage.name)
            else:
                self.watcher.start(stage.name)
                self.run(stage, self._job(stage, names[0], settings, inputs))
                found = self.store.find(stage.makes, names[0])
                if found is None or (record := sealed.read(found.path)) is None:
                    raise RuntimeError(f"{stage.name} ended well and left nothing")
                self.watcher.done(stage.name, record.made.seconds)
        if found.path.name not in self.touched:
            self.touched.append(found.path.name)
        return found

    def check(self, question: Callable[[], object]) -> None:
        """Ask something of what was made so far that may raise.

        Raises:
            PipelineError: what the question raises.
        """
        question()

    @abstractmethod
    def run(self, stage: Stage[Any], job: Job) -> None:
        """Make a stage directory.

        Raises:
            PipelineError: what the stage raised.
        """

    def _job(
        self, stage: Stage[A], name: str, settings: BaseModel, inputs: dict[str, BaseModel]
    ) -> Job:
        return Job(
            module=stage.path,
            name=name,
            settings=settings.model_dump(mode="json"),
            inputs={known: self._name(value) for known, value in inputs.items()},
        )

    def _name(self, value: BaseModel) -> str:
        """An input as the store knows it."""
        if isinstance(value, Artifact) and value.path.parent == self.store.root:
            return value.path.name
        return self.store.note(value)
