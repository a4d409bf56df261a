"""Safetensors read in blocks of rows: what is in memory is bounded by the block, not the model.

With `pread` instead of a memory map: mapped pages count as the process's own memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bases import checkpoint
from pipeline.common.errors import ToolFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BYTES = {"BF16": 2, "F16": 2, "F32": 4}


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies."""

    file: int
    """Descriptor of the open file."""
    path: Path
    start: int
    dtype: str
    """As safetensors spells it: BF16, F16 or F32."""
    shape: tuple[int, ...]

    @property
    def row(self) -> int:
        """Weights of a row; 1 in a vector."""
        return math.prod(self.shape[1:])

    @property
    def size(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * _BYTES[self.dtype]


class Weights:
    """The tensors of some safetensors files by name."""

    def __init__(self, tensors: dict[str, Stored]) -> None:
        self.tensors = tensors

    def bits(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` as stored, flat: uint16 for BF16, else float16 or float32.

        Raises:
            ToolFailed: the file ends before.
        """
        import numpy as np

        tensor = self.tensors[name]
        a_row = tensor.row * _BYTES[tensor.dtype]
        at = tensor.start + start * a_row
        raw = read(tensor.file, at, (stop - start) * a_row, f"{tensor.path} ends within {name}")
        kinds = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
        return raw.view(kinds[tensor.dtype])

    def raw(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Bytes of some rows as they are, by the name in a GGUF: of a base that is one.

        Raises:
            LookupError: it is none.
        """
        raise LookupError(f"{name}: no GGUF, whose bytes could be copied")

    def ahead(self, name: str) -> None:
        """Let the system read a tensor from the disk while something else is computed."""
        tensor = self.tensors[name]
        os.posix_fadvise(tensor.file, tensor.start, tensor.size, os.POSIX_FADV_WILLNEED)


def read(file: int, start: int, size: int, cut_off: str) -> NDArray[np.uint8]:
    """So many bytes of an open file from a place on.

    Args:
        file: its descriptor.
        cut_off: what is said where it ends before.

    Raises:
        ToolFailed: it ends before.
    """
    import numpy as np

    raw = np.empty(size, np.uint8)
    view, done = memoryview(raw.data), 0
    while done < size:
        count = os.preadv(file, [view[done:]], start + done)
        if count == 0:
            raise ToolFailed(cut_off, "Get the file again.")
        done += count
    return raw


@contextmanager
def opened(paths: list[Path]) -> Iterator[Weights]:
    """The tensors of all these files, until the block ends.

    Raises:
        BadInput: a file that is no whole safetensors, or holds other than 16- or 32-bit floats.
    """
    files: list[int] = []
    tensors = {}
    try:
        for path in paths:
            header = checkpoint.header(path)
            files.append(os.open(path, os.O_RDONLY))
            begin = path.stat().st_size - max(t["data_offsets"][1] for t in header.values())
            for name, found in header.items():
                start = begin + found["data_offsets"][0]
                shape = tuple(found["shape"])
                tensors[name] = Stored(files[-1], path, start, found["dtype"], shape)
        yield Weights(tensors)
    finally:
        for file in files:
            os.close(file)
