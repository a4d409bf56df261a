"""What a GGUF file loses on held-out answers, and what is left of what training gained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.stages.packing.tree import UNTRAINED, Sequence_
from pipeline.tools.llamacpp import Model
from pipeline.tools.teacher import teacher

LEAST = 0.9  # of the gain: a file that keeps less is refused


def of(file: Path, held: Sequence[Sequence_], threads: int) -> float:
    """Mean loss of a file on the trained tokens of some sequences, in nats.

    Raises:
        ToolFailed: llama.cpp cannot open or evaluate it.
    """
    found: list[float] = []
    longest = max(len(ids) for ids, _ in held)
    with Model(file, weights=True) as model, teacher(model, longest, threads) as reader:
        for ids, labels in held:
            found += reader.surprisals(ids, [label != UNTRAINED for label in labels])
    return sum(found) / len(found)


def kept(before: float, tuned: float, after: float) -> float:
    """The share of the gain that is left, at most 1; all of it where nothing was gained."""
    gain = before - tuned
    return min(1.0, (before - after) / gain) if gain > 0 else 1.0
