"""What `make` would do: each stage ready, or what differs from the last time; how long it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pipeline import sealed
from pipeline.reference import Reference, resolve
from pipeline.sealed import Key, StageRecord
from pipeline.settings import CHARACTERS_PER_TOKEN, Chosen, settings
from pipeline.source import Source
from pipeline.spec import Spec
from pipeline.specialist import remarks
from pipeline.stage import Stage
from pipeline.stages import fetch, pack, prepare, tune
from pipeline.stages.preparing.split import PARTS
from pipeline.store import Store

ENOUGH_STEPS = 20  # of a run whose pace tells something: the first ones are slow
TOKENS_PER_SECOND = 200.0  # 2 cores, 135 million parameters; until this machine has measured
MARKERS = 12  # tokens that a chat template puts around a turn, about
SECONDS = {"fetch": 45.0, "prepare": 5.0, "pack": 40.0}  # with the embedded base, until measured


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
    settings: Chosen
    steps: list[Step]
    seconds: float
    notes: list[str]
    parts: dict[str, int] | None = None
    """Rows to train on, to choose the checkpoint by, and for the proof; None until prepared."""


def plan(spec: Spec, source: Source, store: Store, gpu_bytes: int | None = None) -> Plan:
    """Look up every stage; nothing is made."""
    reference = resolve(spec.base, spec.beside)
    chosen = settings(spec, source.statistics, reference, gpu_bytes)
    guess = _Guess(store, reference, source, chosen)
    steps: list[Step] = []
    notes: list[str] = remarks(spec, source)
    inputs: list[Any] | None = [reference]
    base = _step(store, fetch.STAGE, chosen.fetch, inputs, steps, guess, notes)
    data = _step(
        store, prepare.STAGE, chosen.prepare, [base, source] if base else None, steps, guess, notes
    )
    adapter = _step(
        store, tune.STAGE, chosen.tune, [base, data] if base and data else None, steps, guess, notes
    )
    ready = [base, adapter, data] if base and adapter and data else None
    _step(store, pack.STAGE, chosen.pack, ready, steps, guess, notes)
    return Plan(
        name=spec.name,
        base=reference.name,
        settings=chosen,
        steps=steps,
        seconds=sum(step.seconds for step in steps),
        notes=notes,
        parts={part: getattr(data, part) for part in PARTS} if data else None,
    )


def _step(
    store: Store,
    stage: Stage[Any],
    wanted: BaseModel,
    inputs: list[Any] | None,
    steps: list[Step],
    guess: _Guess,
    notes: list[str],
) -> Any:
    """Append the stage's line; its artifact if it is ready."""
    found = store.find(stage, wanted, *inputs) if inputs is not None else None
    if found is not None:
        steps.append(Step(stage=stage.name, state="ready", why="", seconds=0))
        notes += _older(stage.name, found.path)
        return found
    if inputs is None:
        changed = [step.stage for step in steps if step.state == "runs"]
        why = f"uses what {changed[-1]} makes"
    else:
        why = _difference(store, stage, wanted, inputs)
    steps.append(
        Step(stage=stage.name, state="runs", why=why, seconds=round(guess.seconds(stage), 1))
    )
    return None


def _difference(store: Store, stage: Stage[Any], wanted: BaseModel, inputs: list[Any]) -> str:
    """What differs from the finished directory that comes closest."""
    now = _flat(Key.model_validate(stage.parts(wanted, *inputs)), stage.named(*inputs))
    closest: list[str] | None = None
    for _, record in store.records(stage):
        then = _flat(record.key, record.inputs or _named(stage, record.key))
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


def _flat(key: Key, inputs: dict[str, str]) -> dict[str, Any]:
    """The key's parts with names that people know."""
    return {
        **key.settings,
        **{f"input {name}": digest for name, digest in inputs.items()},
        "version of the stage": key.version,
        "llama.cpp": key.pinned or None,
    }


def _named(stage: Stage[Any], key: Key) -> dict[str, str]:
    """Inputs of a record of before they had names; none if it has more or fewer than today."""
    if len(key.inputs) != len(stage.inputs):
        return {}
    return dict(zip(stage.inputs, key.inputs, strict=True))


def short(value: Any) -> str:
    """A value in a few characters."""
    text = str(value)
    if len(text) == 64:  # a digest
        return text[:8]
    return text if len(text) <= 40 else f"{text[:37]}…"


def _older(stage: str, path: Path) -> list[str]:
    """`made with older X`, from the record."""
    from importlib import metadata

    record = sealed.read(path)
    made = record.made.versions if record else {}
    return [
        f"{stage} was made with {name} {version}, installed is {now}"
        for name, version in made.items()
        if (now := metadata.version(name)) != version
    ]


class _Guess:
    """How long stages will take: as measured on this machine before, else a plain estimate."""

    def __init__(self, store: Store, reference: Reference, source: Source, chosen: Chosen) -> None:
        self.store, self.reference, self.source, self.chosen = store, reference, source, chosen

    def seconds(self, stage: Stage[Any]) -> float:
        """Seconds that this stage is expected to take."""
        if stage.name != "tune":
            measured = next(
                (r.made.seconds for _, r in self.store.records(stage) if self._alike(r)), None
            )
            return float(
                measured or SECONDS[stage.name] * max(1, self.reference.parameters / 135e6)
            )
        statistics = self.source.statistics
        tokens = statistics.characters / CHARACTERS_PER_TOKEN + MARKERS * 2 * statistics.answers
        tokens += statistics.without_system * len(self.chosen.prepare.system) / CHARACTERS_PER_TOKEN
        return 30 + tokens * self.chosen.tune.epochs / self._pace()

    def _pace(self) -> float:
        for _, record in self.store.records(tune.STAGE):
            measured = float(record.artifact.get("tokens_per_second", 0))
            few = record.artifact.get("steps", 0) < ENOUGH_STEPS
            if measured and not few and self._alike(record):
                return measured
        return TOKENS_PER_SECOND * 135e6 / self.reference.parameters

    def _alike(self, record: StageRecord) -> bool:
        """True if a stage's record is of this base."""
        first = record.key.inputs[0] if record.key.inputs else ""
        if record.key.stage == "fetch":
            return first == self.reference.digest
        base = self.store.find(fetch.STAGE, self.chosen.fetch, self.reference)
        return base is not None and base.digest == first
