"""The arithmetic of packing on blocks of float32: compiled kernels, else numpy; the same bits.

Every operation is defined down to the last bit and none is left to a BLAS, whose sums depend on the
processor: an update is summed over the rank in order, each product and each sum rounded to float32.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.stages.packing import kernels
from pipeline.tools import ggml

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def widened(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Stored weights as float32, flat; uint16 is bfloat16. What is float32 is not copied."""
    import numpy as np

    if bits.dtype != np.uint16:
        return bits.astype(np.float32, copy=False)
    if not compiled():
        return _widened(bits)
    out = np.empty(bits.size, np.float32)
    kernels.widen_bf16(bits, out)
    return out


def add_update(
    weights: NDArray[np.float32], b: NDArray[np.float32], a: NDArray[np.float32], scale: float
) -> None:
    """weights += scale * (b @ a), in place.

    Args:
        weights: shape (rows, columns).
        b: shape (rows, rank).
        a: shape (rank, columns).
    """
    import numpy as np

    (kernels.add_update if compiled() else _add_update)(weights, b, a, np.float32(scale))


def round_to(kind: str, weights: NDArray[np.float32]) -> None:
    """Round to F16 or BF16 and back, to nearest even, in place; F32 is left as it is."""
    if kind == "F32":
        return
    if kind == "F16":
        rounding = kernels.round_f16 if compiled() else _round_f16
    else:
        rounding = kernels.round_bf16 if compiled() else _round_bf16
    rounding(weights.reshape(-1))


def first_not_finite(weights: NDArray[np.float32]) -> int:
    """Where the first NaN or infinity is in the flat array, -1 if there is none."""
    flat = weights.reshape(-1)
    return kernels.first_not_finite(flat) if compiled() else _first_not_finite(flat)


def quantized(rows: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
    """Rows in a type of ggml's, shape (rows, bytes a row)."""
    import numpy as np

    if kind == "F32":
        return rows.view(np.uint8)
    kernel = kernels.quantizer(kind) if kernels.available() and kernels.trusted(kind) else None
    if kernel is None:
        return ggml.quantize(kind, rows)
    out = np.empty((len(rows), ggml.row_bytes(kind, rows.shape[1])), np.uint8)
    kernel(rows, out)
    return out


def compiled() -> bool:
    """True if there are kernels here, and they compute what numpy does."""
    return kernels.available() and _agree()


@cache
def _agree() -> bool:
    """Each operation on a few thousand numbers of all sizes, both ways."""
    import numpy as np

    random = np.random.default_rng(0)
    bits = random.integers(0, 1 << 16, 4096).astype(np.uint16)
    bits = bits[(bits & 0x7F80) != 0x7F80]  # what is no number is found, never computed with
    wide = np.empty(bits.size, np.float32)
    kernels.widen_bf16(bits, wide)
    weights, a = (random.normal(0, 1, shape).astype(np.float32) for shape in ((7, 96), (13, 96)))
    b = random.normal(0, 1, (7, 13)).astype(np.float32)
    sizes = (random.normal(0, 1, 4096) * 10.0 ** random.uniform(-12, 6, 4096)).astype(np.float32)
    pairs = [(wide, _widened(bits))]
    for ours, theirs, of in (
        (lambda x: kernels.add_update(x, b, a, np.float32(0.3)),
         lambda x: _add_update(x, b, a, np.float32(0.3)), weights),
        (kernels.round_f16, _round_f16, sizes),
        (kernels.round_bf16, _round_bf16, sizes),
    ):  # fmt: skip
        one, other = of.copy(), of.copy()
        ours(one)
        theirs(other)
        pairs.append((one, other))
    sizes[4000] = np.inf
    found = kernels.first_not_finite(sizes) == _first_not_finite(sizes) == 4000
    return found and all(
        np.array_equal(one.view(np.uint32), other.view(np.uint32)) for one, other in pairs
    )


def _widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    import numpy as np

    return (bits.astype(np.uint32) << 16).view(np.float32)


def _add_update(
    weights: NDArray[np.float32], b: NDArray[np.float32], a: NDArray[np.float32], scale: np.float32
) -> None:
    import numpy as np

    delta = np.zeros_like(weights)
    for rank in range(len(a)):
        delta += b[:, rank, None] * a[rank]
    weights += scale * delta


def _round_f16(weights: NDArray[np.float32]) -> None:
    import numpy as np

    with np.errstate(over="ignore"):
        weights[:] = weights.astype(np.float16)


def _round_bf16(weights: NDArray[np.float32]) -> None:
    import numpy as np

    bits, kept = weights.view(np.uint32), ~np.isnan(weights)
    bits[kept] += 0x7FFF + ((bits[kept] >> 16) & 1)
    bits &= 0xFFFF0000


def _first_not_finite(weights: NDArray[np.float32]) -> int:
    import numpy as np

    found = np.flatnonzero(~np.isfinite(weights))
    return int(found[0]) if len(found) else -1
