"""What a stage is: a name, a version, what it makes, and a function found by its import path.

    STAGE = Stage(
        "pack", version=1, settings=Pack, inputs={"base": Base, "adapter": Adapter}, makes=Packed,
        expected=like_before(40),
    )

    def run(out: Path, settings: Pack, base: Base, adapter: Adapter, *, where: Where) -> Packed: ...

A stage knows no flag and no store. `version` is bumped by hand when behaviour changes; the versions
before it whose directories are still good are named in `takes_over`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from pipeline.common.progress import Progress
from pipeline.common.values import digest_of
from pipeline.made.artifacts import Artifact

if TYPE_CHECKING:
    from pipeline.made.sealed import StageRecord

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class Where:
    """Where to make it: no part of any key."""

    device: str = "cpu"
    """`cpu` or `cuda`."""
    threads: int = 1
    report: Callable[[Progress], None] = field(default=lambda progress: None)
    """May be called often; the receiver may skip updates."""
    say: Callable[[str], None] = field(default=lambda line: None)
    """A sentence for the user: a warning, a choice that was made."""


Expected = Callable[[Any, Mapping[str, Any], Sequence["StageRecord"]], float]
"""Seconds that a stage will take: of its settings, its inputs by name (some may not be made yet:
`Unmade`), and the records of the same stage with the same base, the newest first."""


def like_before(seconds: float) -> Expected:
    """As long as the last time; else so many seconds for each 135 million parameters."""

    def expected(settings: Any, inputs: Mapping[str, Any], before: Sequence[StageRecord]) -> float:
        if before and before[0].made.seconds:
            return before[0].made.seconds
        return seconds * max(1.0, float(known(inputs["base"], "parameters", 0)) / 135e6)

    return expected


@dataclass(frozen=True)
class Stage(Generic[A]):
    """One step of the chain; `run` of its module does it."""

    name: str
    version: int
    settings: type[BaseModel]
    inputs: Mapping[str, type[BaseModel]]
    """What `run` takes after its settings, by name and in this order."""
    makes: type[A]
    expected: Expected
    reads: Mapping[str, str] = field(default_factory=dict)
    """For inputs of which it does not read all files: the purpose, as in `Artifact.PURPOSES`."""
    takes_over: tuple[int, ...] = ()
    """Earlier versions of itself whose finished directories are used as if it had made them."""
    pinned: tuple[str, ...] = ()
    """Versions of foreign tools that decide the bytes: part of the key."""
    resumes: bool = False
    """Goes on in the draft of a run that was killed; else a draft is thrown away."""
    at_once: bool = False
    """Made in a dry run, too: it takes seconds, and all that follows depends on what it finds."""
    module: str = ""
    """Import path of the module that has `STAGE` and `run`; by default pipeline.stages.NAME."""

    @property
    def path(self) -> str:
        """The import path."""
        return self.module or f"pipeline.stages.{self.name}"

    def parts(self, settings: BaseModel, inputs: Mapping[str, BaseModel]) -> dict[str, object]:
        """What the key is made of, by name, so that `plan` can say what differs."""
        return {
            "stage": self.name,
            "version": self.version,
            "pinned": list(self.pinned),
            # without defaults: a new optional setting is no reason to make all anew
            "settings": settings.model_dump(mode="json", exclude_defaults=True),
            "inputs": list(self.named(inputs).values()),
        }

    def named(self, inputs: Mapping[str, BaseModel]) -> dict[str, str]:
        """Digests of the inputs by name, each for this stage's purpose; without those of none.

        Raises:
            KeyError: one is missing.
        """
        found = {name: _digest(inputs[name], self.reads.get(name, "")) for name in self.inputs}
        return {name: digest for name, digest in found.items() if digest}

    def key(self, settings: BaseModel, inputs: Mapping[str, BaseModel]) -> str:
        """16 hex digits that name the finished directory."""
        return digest_of(self.parts(settings, inputs))[:16]

    def names(self, settings: BaseModel, inputs: Mapping[str, BaseModel]) -> list[str]:
        """Names that the finished directory may have: the first is given today.

        Before there were purposes a key held the digests of whole inputs.
        """
        versions = [replace(self, version=v) for v in (self.version, *self.takes_over)]
        stages = [stage for now in versions for stage in (now, replace(now, reads={}))]
        keys = dict.fromkeys(stage.key(settings, inputs) for stage in stages)
        return [f"{self.name}-{key}" for key in keys]


def _digest(value: BaseModel, purpose: str = "") -> str:
    if isinstance(value, Artifact):
        return value.digest_for(purpose)
    digest: str | None = getattr(value, "digest", None)
    return digest_of(value.model_dump(mode="json")) if digest is None else digest


class NotMade(Exception):
    """Something was asked of an artifact that is not made yet."""


class Unmade:
    """Stands for an artifact that will be made: known is only what it will be made of."""

    def __init__(self, stage: str, settings: BaseModel, inputs: Mapping[str, Any]) -> None:
        self.by = stage
        self._settings = settings
        self._inputs = dict(inputs)

    def __getattr__(self, name: str) -> Any:
        raise NotMade(f"{self.by} is not made yet, so it has no {name}")


def insist(*artifacts: Any) -> None:
    """A dry run ends here, unless all of these are made.

    Raises:
        NotMade: one is not.
    """
    for artifact in artifacts:
        _ = artifact.path


def known(value: Any, name: str, otherwise: Any = None) -> Any:
    """An attribute of a value; of what it will be made of, where it is not made yet."""
    if not isinstance(value, Unmade):
        return getattr(value, name, otherwise)
    for part in (value._settings, *value._inputs.values()):
        if (found := known(part, name)) is not None:
            return found
    return otherwise
