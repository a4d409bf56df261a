"""A GGUF's weights as those of the directory: names, rows and constants as before the converter.

What the converter did is known (tools/outline.py) and undone here, in blocks of rows: types are
widened to float32, rows put back, constants subtracted. No name passes through our hands.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.stages.packing.weights import Stored, Weights, read
from pipeline.tools import ggml
from pipeline.tools.gguf_layout import Place
from pipeline.tools.outline import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class GgufWeights(Weights):
    """The tensors of a GGUF by the directory's names, in float32."""

    def __init__(
        self, files: Sequence[int], paths: Sequence[Path], places: Mapping[str, Place]
    ) -> None:
        super().__init__({})
        self._files, self._paths, self._places = files, paths, places
        self._made: dict[str, Tensor] = {}

    def add(self, tensor: Tensor) -> None:
        """Know a tensor by the name of the directory's that it was made of."""
        place, source = self._places[tensor.name], tensor.source or ""
        self._made[source] = tensor
        file, path = self._files[place.part], self._paths[place.part]
        self.tensors[source] = Stored(file, path, place.start, "F32", tensor.shape)

    def bits(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` of the directory's tensor, flat, in float32.

        Raises:
            ToolFailed: the file ends before.
        """
        import numpy as np

        tensor = self._made[name]
        width = tensor.shape[1] if len(tensor.shape) > 1 else 1
        together = max(1, len(tensor.order))
        first, last = start // together * together, -(-stop // together) * together
        raw = self.raw(tensor.name, first, last)
        rows = ggml.dequantize(self._places[tensor.name].kind, raw, width)
        if tensor.order:
            blocks, before = rows.reshape(-1, together, width), np.empty_like(rows)
            before.reshape(blocks.shape)[:, list(tensor.order)] = blocks
            rows = before
        if tensor.added:
            rows -= np.float32(tensor.added)
        return rows[start - first : stop - first].reshape(-1)

    def raw(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        """The bytes of some rows of the GGUF's tensor, as they are; a vector's rows are numbers.

        Raises:
            ToolFailed: the file ends before.
        """
        place = self._places[name]
        a_row = place.size // place.rows
        cut_off = f"{self._paths[place.part]} ends within {name}"
        at = place.start + start * a_row
        return read(self._files[place.part], at, (stop - start) * a_row, cut_off)


@contextmanager
def opened_gguf(
    paths: Sequence[Path], places: Mapping[str, Place], tensors: Sequence[Tensor]
) -> Iterator[GgufWeights]:
    """The weights of a GGUF, until the block ends.

    Args:
        paths: the file, or the files that it is split into.
        places: where what lies in them.
        tensors: what the converter makes of the directory: its outline.
    """
    files: list[int] = []
    try:
        files += [os.open(path, os.O_RDONLY) for path in paths]
        weights = GgufWeights(files, paths, places)
        for tensor in tensors:
            if tensor.source is not None:
                weights.add(tensor)
        yield weights
    finally:
        for file in files:
            os.close(file)
