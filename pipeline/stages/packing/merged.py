"""The weights of the merged model, in blocks of rows, as the converter would store them.

What the adapter changes is computed in float32 and rounded once, to a 16-bit type; everything else
is the base's own, in the type in which the converter stores it. A merge that leaves the stored
weights of a module as they were is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.common.errors import ToolFailed
from pipeline.stages.packing.adapter import Lora
from pipeline.stages.packing.arithmetic import add_update, first_not_finite, round_to, widened
from pipeline.stages.packing.clock import Clock
from pipeline.stages.packing.weights import Weights
from pipeline.tools.outline import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

BLOCK = 1 << 22  # weights that are merged at a time


class Merged:
    """A base with an adapter merged into it; used by several threads at once."""

    def __init__(
        self, weights: Weights, loras: dict[str, Lora], clock: Clock | None = None
    ) -> None:
        self.weights, self.loras, self.clock = weights, loras, clock or Clock()
        self._changed: set[tuple[str, str]] = set()  # name, type
        self._asked: set[str] = set()  # types

    def rows(
        self, tensor: Tensor, start: int, stop: int, merge_dtypes: Sequence[str]
    ) -> dict[str, Rows]:
        """Rows of a tensor of the GGUF, as the converter stores them in each of these types.

        Raises:
            ToolFailed: a weight that is no number: which, and where it comes from.
        """
        if tensor.source is None:
            return dict.fromkeys(merge_dtypes, _constant(tensor)[start:stop])
        whole = self.source_rows(tensor.source, start, stop, merge_dtypes)
        return {kind: self._stored(tensor, rows, start, kind) for kind, rows in whole.items()}

    def source_rows(
        self, name: str, start: int, stop: int, merge_dtypes: Sequence[str]
    ) -> dict[str, Rows]:
        """Rows of a tensor of the directory after the merge, rounded to each of these types.

        Only what the adapter changes is rounded.
        """
        with self.clock("read"):
            bits = self.weights.bits(name, start, stop)
        with self.clock("widen"):
            plain = widened(bits).reshape(stop - start, -1)
        lora = self.loras.get(name)
        if lora is None:
            return _copies(plain, merge_dtypes)
        looked_for = [kind for kind in merge_dtypes if (name, kind) not in self._changed]
        before = _copies(plain.copy(), looked_for) if looked_for else {}
        with self.clock("read"):
            b, a = lora.rows(start, stop)
        with self.clock("merge"):
            add_update(plain, b, a, lora.scale)
        found = _copies(plain, merge_dtypes)
        with self.clock("round"):
            for rows in (found, before):
                for kind, weights in rows.items():
                    round_to(kind, weights)
        self._asked.update(merge_dtypes)
        for kind, weights in before.items():
            if not (weights == found[kind]).all():
                self._changed.add((name, kind))
        return found

    def whole(self, name: str, start: int = 0, stop: int | None = None, *, kind: str) -> Rows:
        """A tensor of the directory after the merge, in float32 and in its shape, or rows of it.

        Args:
            kind: the type that what was merged is rounded to.
        """
        import numpy as np

        rows, *columns = self.weights.tensors[name].shape
        stop = rows if stop is None else stop
        found = np.empty((stop - start, *columns), np.float32)
        step = max(1, BLOCK // max(1, math.prod(columns)))
        for first in range(start, stop, step):  # in blocks: merging takes several times their size
            last = min(first + step, stop)
            block = self.source_rows(name, first, last, [kind])[kind]
            found[first - start : last - start] = block.reshape(-1, *columns)
        return found

    def check_changed(self) -> None:
        """When all rows were made: every module of the adapter differs in the stored weights.

        Raises:
            ToolFailed: one that does not.
        """
        expected = {(name, kind) for name in self.loras for kind in self._asked}
        for name, kind in sorted(expected - self._changed):
            raise ToolFailed(
                f"merging changed nothing in {name}, stored as {kind}",
                "The adapter is too weak to survive 16 bit: train longer or with a higher learning"
                " rate.",
            )

    def _stored(self, tensor: Tensor, rows: Rows, start: int, kind: str) -> Rows:
        """What the converter does to the rows of a directory: another order, a constant, a type."""
        source = tensor.source or ""
        if tensor.order:
            with self.clock("reorder"):
                blocks = rows.reshape(-1, len(tensor.order), rows.shape[1])
                rows = blocks[:, list(tensor.order)].reshape(rows.shape)
        if tensor.added:
            rows += rows.dtype.type(tensor.added)
            if (kind if source in self.loras else self.weights.tensors[source].dtype) == "F16":
                round_to("F16", rows)  # the converter adds in float16 what is stored in it
        with self.clock("round"):
            if tensor.kind == "F16" and source not in self.loras:
                round_to(kind, rows)
        with self.clock("check"):
            bad = first_not_finite(rows)
        if bad >= 0:
            row, together = bad // rows.shape[1], len(tensor.order)
            if together:
                row = row // together * together + tensor.order[row % together]
            raise self._blamed(source, start + row, kind)
        return rows

    def _blamed(self, name: str, row: int, kind: str) -> ToolFailed:
        """Which input brought a weight that is no number into a row of the directory's tensor."""
        if first_not_finite(widened(self.weights.bits(name, row, row + 1))) >= 0:
            what = f"{name} of the base holds NaN or infinity in row {row}"
            return ToolFailed(what, "Get an undamaged copy of the base.")
        lower = "Train with a lower learning rate (--set tune.learning_rate=…)."
        if lora := self.loras.get(name):
            ranks = lora.factors.tensors[lora.a].shape[0]
            for factor, rows in ((lora.b, [row]), (lora.a, range(ranks))):
                for each in rows:
                    if first_not_finite(widened(lora.factors.bits(factor, each, each + 1))) >= 0:
                        what = f"{factor} of the adapter holds NaN or infinity in row {each}"
                        return ToolFailed(what, lower)
        return ToolFailed(
            f"row {row} of {name} holds a weight that is too large for {kind}",
            lower if lora else "Store the base in another type, as in --quantize BF16.",
        )


def _copies(rows: Rows, kinds: Sequence[str]) -> dict[str, Rows]:
    """The rows once for each type; the last has the array itself."""
    return {kind: rows if kind == kinds[-1] else rows.copy() for kind in kinds}


def _constant(tensor: Tensor) -> Rows:
    import numpy as np

    return np.array(tensor.values, np.float32).reshape(tensor.shape[0], -1)
