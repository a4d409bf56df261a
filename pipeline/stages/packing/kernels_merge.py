"""The update of an adapter, added to the weights: a few rows of one factor times the other.

Every sum runs over the rank in order, so that the result is the same on any machine; a BLAS adds in
an order of its own. A rank of 16 is too short for one to be faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stages.packing.compiling import kernel, number, read, written
from pipeline.stages.packing.float_bits import F

if TYPE_CHECKING:
    from numpy.typing import NDArray

TILE = 1024  # columns whose sums are kept close to the processor


@kernel(
    *(written("float32"), read("float32"), read("float32"), number("float32")),
    *(number("int64"), number("int64")),
)
def add_update(
    weights: NDArray[np.float32],
    b: NDArray[np.float32],
    a: NDArray[np.float32],
    scale: Any,
    rank: int,
    columns: int,
) -> None:
    """weights += scale * (b @ a), in place; flat arrays of (rows, columns), (rows, rank) and
    (rank, columns). Each product and each sum is rounded to float32.
    """
    sums = np.empty(TILE, np.float32)
    whole = rank // 4 * 4
    for row in range(weights.size // columns):
        ours = b[row * rank : (row + 1) * rank]
        for start in range(0, columns, TILE):
            wide = min(TILE, columns - start)
            # slices: numba takes an index of a sum for one that may be negative, and then no loop
            # is vectorised
            kept = weights[row * columns + start : row * columns + start + wide]
            for i in range(wide):
                sums[i] = F(0)
            for r in range(0, whole, 4):  # four at a time: the sums are loaded and stored less
                b0, b1, b2, b3 = ours[r], ours[r + 1], ours[r + 2], ours[r + 3]
                at = r * columns + start
                a0, a1 = a[at : at + wide], a[at + columns : at + columns + wide]
                at += 2 * columns
                a2, a3 = a[at : at + wide], a[at + columns : at + columns + wide]
                for i in range(wide):
                    value = F(sums[i] + F(b0 * a0[i]))
                    value = F(value + F(b1 * a1[i]))
                    value = F(value + F(b2 * a2[i]))
                    sums[i] = F(value + F(b3 * a3[i]))
            for r in range(whole, rank):
                b0 = ours[r]
                a0 = a[r * columns + start : r * columns + start + wide]
                for i in range(wide):
                    sums[i] = F(sums[i] + F(b0 * a0[i]))
            for i in range(wide):
                kept[i] = F(kept[i] + F(scale * sums[i]))
