"""What `make` would do: each stage ready, or what differs from the last time; how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from pipeline.bases.reference import resolve
from pipeline.chain import build, remarks, take_in
from pipeline.intake.source import Source
from pipeline.made import sealed
from pipeline.made.artifacts import Artifact, Dataset
from pipeline.made.sealed import Key, StageRecord
from pipeline.made.stage import NotMade, Stage, Unmade
from pipeline.run.engine import Engine, Job
from pipeline.run.store import Store
from pipeline.spec.spec import Spec
from pipeline.stages.prepare import STAGE as PREPARE
from pipeline.stages.preparing.split import PARTS

A = TypeVar("A", bound=Artifact)


class Step(BaseModel):
    """One stage of the plan."""

    model_config = ConfigDict(frozen=True)
    stage: str
    state: Literal["ready", "runs"]
    why: str
    """What differs from the last time, in words; '' if ready."""
    seconds: float
    """Expected; 0 if ready."""


class Plan(BaseModel):
    """All stages with the settings that they would get."""

    model_config = ConfigDict(frozen=True)
    name: str
    base: str
    settings: dict[str, dict[str, Any]]
    """By stage."""
    steps: list[Step]
    seconds: float
    notes: list[str]
    parts: dict[str, int] | None = None
    """Rows to train on, to choose the checkpoint by, and for the proof; None until prepared."""


def plan(spec: Spec, source: Source, engine: Engine, gpu_bytes: int | None = None) -> Plan:
    """Look up every stage. Nothing is made but what the rest depends on: the rows are taken in.

    Raises:
        BadInput: what the chain refuses before it makes anything, broken rows among it.
    """
    dry = Dry(engine)
    with suppress(NotMade):
        build(spec, source, dry, gpu_bytes)
    data = dry.ready.get(PREPARE.name)
    return Plan(
        name=spec.name,
        base=resolve(spec.base, spec.beside).name,
        settings=dry.settings,
        steps=dry.steps,
        seconds=sum(step.seconds for step in dry.steps),
        notes=remarks(spec, take_in(source, engine)) + dry.notes,
        parts={part: getattr(data, part) for part in PARTS} if isinstance(data, Dataset) else None,
    )


class Dry(Engine):
    """Makes nothing: notes what is ready, else what differs from the last time, and the time."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.store)
        self._engine = engine
        self.steps: list[Step] = []
        self.notes: list[str] = []
        self.ready: dict[str, Artifact] = {}
        """What was found, by stage."""

    def do(self, stage: Stage[A], settings: BaseModel, **inputs: BaseModel) -> A:
        """The artifact if it is ready, else something that stands for it."""
        if stage.at_once:
            self._engine.do(stage, settings, **inputs)
        self.settings[stage.name] = settings.model_dump(mode="json")
        if waits_for := {value.by for value in inputs.values() if isinstance(value, Unmade)}:
            last = next(s.stage for s in reversed(self.steps) if s.stage in waits_for)
            why = f"uses what {last} makes"
        elif found := self.store.first(stage.makes, stage.names(settings, inputs)):
            self.steps.append(Step(stage=stage.name, state="ready", why="", seconds=0))
            self.notes += _older(stage.name, found.path)
            self.ready[stage.name] = found
            return found
        else:
            why = _difference(self.store, stage, settings, inputs)
        seconds = stage.expected(settings, inputs, self._before(stage, inputs))
        self.steps.append(Step(stage=stage.name, state="runs", why=why, seconds=round(seconds, 1)))
        return cast(A, Unmade(stage.name, settings, inputs))

    def check(self, question: Callable[[], object]) -> None:
        """Asked where all that it is about is made."""
        with suppress(NotMade):
            question()

    def run(self, stage: Stage[Any], job: Job) -> None:
        """Never: nothing is made."""
        raise NotMade(job.name)

    def _before(self, stage: Stage[A], inputs: Mapping[str, Any]) -> list[StageRecord]:
        """Records of this stage with the same base, if it takes one; the newest first."""
        found = [record for _, record in self.store.records(stage)]
        if "base" not in inputs:
            return found
        if isinstance(inputs["base"], Unmade):
            return []
        known = _known(stage, {"base": inputs["base"]})["base"]
        return [record for record in found if record.inputs.get("base") in known]


def _difference(
    store: Store, stage: Stage[Any], settings: BaseModel, inputs: Mapping[str, BaseModel]
) -> str:
    """What differs from the finished directory that comes closest."""
    now = _flat(Key.model_validate(stage.parts(settings, inputs)), stage.named(inputs))
    known = _known(stage, inputs)
    closest: list[str] | None = None
    for _, record in store.records(stage):
        # a digest of the whole input, as keys held before there were purposes, is the same input
        inputs_then = {
            name: now.get(f"input {name}", "") if digest in known.get(name, ()) else digest
            for name, digest in record.inputs.items()
        }
        then = _flat(record.key, inputs_then)
        different = [
            f"{name}: {short(then.get(name))} → {short(now.get(name))}"
            for name in sorted(now.keys() | then.keys())
            if now.get(name) != then.get(name)
        ]
        if closest is None or len(different) < len(closest):
            closest = different
    if closest is None:
        return "never made"
    names = ", ".join(closest)
    return names or "made before, and removed since"


def _known(stage: Stage[Any], inputs: Mapping[str, Any]) -> dict[str, set[str]]:
    """Of each input the digests that a record may have of it: for the purpose, and of the whole."""
    whole = replace(stage, reads={})
    return {
        name: {
            digest
            for one in (_only(stage, name), _only(whole, name))
            for digest in one.named({name: value}).values()
        }
        for name, value in inputs.items()
    }


def _only(stage: Stage[Any], name: str) -> Stage[Any]:
    return replace(stage, inputs={name: stage.inputs[name]})


def _flat(key: Key, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The key's parts with names that people know."""
    return {
        **key.settings,
        **{f"input {name}": digest for name, digest in inputs.items()},
        "version of the stage": key.version,
        "llama.cpp": key.pinned or None,
    }


def _installed(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def short(value: Any) -> str:
    """A value in a few characters; of a list of rows, how many they are."""
    if isinstance(value, list | tuple):
        return f"{len(value)} row{'' if len(value) == 1 else 's'}"
    text = str(value)
    if len(text) == 64:  # a digest
        return text[:8]
    return text if len(text) <= 40 else f"{text[:37]}…"


def _older(stage: str, path: Path) -> list[str]:
    """`made with older X`, from the record."""
    record = sealed.read(path)
    made = record.made.versions if record else {}
    return [
        f"{stage} was made with {name} {version}, installed is {now}"
        for name, version in made.items()
        if (now := _installed(name)) != version
    ]
