"""What a stage is: a name, a version, what it makes, and a function found by its import path.

    STAGE = Stage("pack", version=1, makes=Gguf, inputs=("base", "adapter"))

    def run(out: Path, settings: Pack, base: Base, adapter: Adapter, *, where: Where) -> Gguf: ...

A stage knows no flag and no store. `version` is bumped by hand when behaviour changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel

from pipeline.artifacts import Artifact
from pipeline.values import digest_of

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class Progress:
    """How far a stage is: `done` of `total` (same unit), and a few words."""

    done: float
    total: float
    note: str = ""


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


@dataclass(frozen=True)
class Stage(Generic[A]):
    """One step of the chain; `run` of `pipeline.stages.<name>` does it."""

    name: str
    version: int
    makes: type[A]
    inputs: tuple[str, ...]
    """What `run` takes after its settings, by name: for records and for people."""
    pinned: tuple[str, ...] = ()
    """Versions of foreign tools that decide the bytes: part of the key."""
    resumes: bool = False
    """Goes on in the draft of a run that was killed; else a draft is thrown away."""

    def parts(self, settings: BaseModel, *inputs: Artifact | BaseModel) -> dict[str, object]:
        """What the key is made of, by name, so that `plan` can say what differs."""
        return {
            "stage": self.name,
            "version": self.version,
            "pinned": list(self.pinned),
            "settings": settings.model_dump(mode="json"),
            "inputs": list(map(_digest, inputs)),
        }

    def named(self, *inputs: Artifact | BaseModel) -> dict[str, str]:
        """Digests of the inputs by name."""
        return dict(zip(self.inputs, map(_digest, inputs), strict=True))

    def key(self, settings: BaseModel, *inputs: Artifact | BaseModel) -> str:
        """16 hex digits that name the finished directory."""
        return digest_of(self.parts(settings, *inputs))[:16]


def _digest(value: BaseModel) -> str:
    return getattr(value, "digest", None) or digest_of(value.model_dump(mode="json"))
