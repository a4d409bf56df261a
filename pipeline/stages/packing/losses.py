"""What a GGUF file loses on held-out answers, and what is left of what training gained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.stages.packing.tree import UNTRAINED, Sequence_
from pipeline.tools.llamacpp import Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST = 0.9  # of the gain: a file that keeps less is refused


def of(file: Path, held: Sequence[Sequence_], threads: int) -> float:
    """Mean loss of a file on the trained tokens of some sequences, in nats.

    Raises:
        ToolFailed: llama.cpp cannot open or evaluate it.
    """
    found = []
    with Model(file, weights=True) as model:
        for ids, labels in held:
            for i, logits in enumerate(model.each_logits(ids, 1, threads), start=1):
                if labels[i] != UNTRAINED:
                    found.append(surprisal(logits, ids[i]))
    return sum(found) / len(found)


def surprisal(row: NDArray[np.float64], token: int) -> float:
    """-log of the softmax at a token, in nats; `row` holds the logits of the vocabulary."""
    import numpy as np

    top = row.max()
    return float(top + np.log(np.exp(row - top).sum()) - row[token])


def kept(before: float, tuned: float, after: float) -> float:
    """The share of the gain that is left, at most 1; all of it where nothing was gained."""
    gain = before - tuned
    return min(1.0, (before - after) / gain) if gain > 0 else 1.0
