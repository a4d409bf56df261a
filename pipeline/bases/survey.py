"""The models of an Ollama, and what each would mean as a base on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from pydantic import BaseModel, ConfigDict

from pipeline.bases.origins import ollama as origin
from pipeline.common.errors import PipelineError
from pipeline.tools.ollama import Ollama

ROWS, ROW, EPOCHS = 200, 150, 2  # rows, tokens of each, passes: what a time is estimated for
OWN = 3_000_000_000  # bytes beside the weights: torch, activations, logits, the adapter (measured)
RATE = 30e9  # weights times tokens a second and core: 465 tokens/s of 135 million on two (README)
FOUR_BIT = 0.6  # bytes a weight in 4 bit, its scales with it
SHARE = 0.8  # of the memory: the rest is the system's
LONGEST = 8 * 3600  # seconds: what takes longer is not proposed


class Candidate(BaseModel):
    """A model that is there."""

    model_config = ConfigDict(frozen=True)

    tag: str
    size: int
    """Bytes of its file; 0 where it cannot be read."""
    architecture: str = ""
    parameters: int = 0
    weights: str = ""
    """The type that most of it lies in."""
    thinks: bool = False
    memory: int = 0
    """Bytes to tune it in 16 bit: two a weight, and what training takes beside them."""
    memory_4bit: int = 0
    """The same in 4 bit, on a GPU: `FOUR_BIT` bytes a weight."""
    seconds: float = 0.0
    """Of training on 200 rows on this CPU, an estimate."""
    why_not: str = ""
    """The first sentence of the refusal; '' where it can be tuned."""


def survey(ollama: Ollama, is_ours: Callable[[str], bool] = lambda tag: False) -> list[Candidate]:
    """Every model of a server, by its header alone: those that can be tuned first, largest first.

    Args:
        is_ours: tells a specialist that was made here: it is no base.
    """
    found = [_candidate(ollama, t, d, is_ours) for t, d in sorted(ollama.tags().items())]
    return sorted(found, key=lambda one: (bool(one.why_not), -one.parameters, one.tag))


def _candidate(
    ollama: Ollama, tag: str, manifest: str, is_ours: Callable[[str], bool]
) -> Candidate:
    if is_ours(tag):
        return Candidate(tag=tag, size=0, why_not="a specialist that was made here")
    try:
        path, _, facts = origin.seen(tag, manifest, ollama.show(tag))
    except PipelineError as error:
        return Candidate(tag=tag, size=0, why_not=error.what)
    return Candidate(
        tag=tag,
        size=path.stat().st_size,
        architecture=facts.architecture,
        parameters=facts.parameters,
        weights=facts.weights,
        thinks=facts.can_think,
        memory=memory(facts.parameters),
        memory_4bit=memory(facts.parameters, FOUR_BIT),
        seconds=seconds(facts.parameters),
    )


def memory(parameters: int, bytes_each: float = 2.0) -> int:
    """Bytes to tune so many weights."""
    return int(parameters * bytes_each) + OWN


def seconds(parameters: int, tokens: int = ROWS * ROW * EPOCHS) -> float:
    """About how long so many tokens are trained on this CPU."""
    return tokens * parameters / (RATE * len(os.sched_getaffinity(0)))


def total_memory() -> int:
    """Bytes of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def best(found: Iterable[Candidate], gpu_bytes: int | None = None) -> Candidate | None:
    """The largest that this machine can tune within some hours; None if there is none."""
    room = SHARE * (gpu_bytes or total_memory())

    def fits(one: Candidate) -> bool:
        if gpu_bytes:
            return not one.why_not and one.memory_4bit <= room
        return not one.why_not and one.memory <= room and one.seconds <= LONGEST

    able = [one for one in found if fits(one)]
    return max(able, key=lambda one: one.parameters, default=None)
