"""Kernels number by number: 16 bit to float32 and back, the merge of an adapter, and the check.

All arrays are flat and of one length. None holds Python's lock, so that threads can share the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.stages.packing.compiling import kernel, read, written
from pipeline.stages.packing.float_bits import (
    INFINITY,
    MAGNITUDE,
    SIGN,
    F,
    U,
    bfloat_bits,
    bits_of,
    half_bits,
    of_bits,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 4096  # numbers checked at a time


@kernel(read("float32"), written("uint8"))
def f16(x: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """Round to the bytes of halves, as ggml."""
    halves = out.view(np.uint16)
    for i in range(x.size):
        halves[i] = half_bits(x[i])


@kernel(read("float32"), written("uint8"))
def bf16(x: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """Round to the bytes of bfloat16, as ggml."""
    halves = out.view(np.uint16)
    for i in range(x.size):
        halves[i] = bfloat_bits(x[i])


@kernel(read("uint16"), written("float32"))
def widen_bf16(bits: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """The float32 of bfloat16 bits."""
    wide = out.view(np.uint32)
    for i in range(bits.size):
        wide[i] = U(bits[i]) << U(16)


@kernel(written("float32"))
def round_f16(weights: NDArray[np.float32]) -> None:
    """Round to what a half holds, in place, to nearest even; from 65,520 on that is infinity."""
    for i in range(weights.size):
        bits = bits_of(weights[i])
        size = U(bits & MAGNITUDE)
        kept = U(U(size + U(U(0xFFF) + U(U(size >> U(13)) & U(1)))) & U(0xFFFFE000))
        kept = INFINITY if kept >= U(0x47800000) else kept
        # below 2^-14 a half counts in steps of 2^-24, as a float32 does from 0.5 on
        tiny = bits_of(F(F(of_bits(size) + F(0.5)) - F(0.5)))
        kept = tiny if size < U(0x38800000) else kept
        kept = U(size | U(0x00400000)) if size > INFINITY else kept
        weights[i] = of_bits(U(kept | U(bits & SIGN)))


@kernel(written("float32"))
def round_bf16(weights: NDArray[np.float32]) -> None:
    """Round to what a bfloat16 holds, in place, to nearest even."""
    for i in range(weights.size):
        weights[i] = of_bits(U(bfloat_bits(weights[i]) << U(16)))


@kernel(read("float32"))
def first_not_finite(weights: NDArray[np.float32]) -> int:
    """Index of the first NaN or infinity, -1 if there is none."""
    bits = weights.view(np.uint32)
    for start in range(0, bits.size, BLOCK):
        block = bits[start : start + BLOCK]
        seen = U(0)
        for i in range(block.size):  # a full exponent carries into the place of the sign
            seen |= U(U(block[i] & MAGNITUDE) + U(0x00800000))
        if seen & SIGN:
            for i in range(block.size):
                if U(block[i] & MAGNITUDE) >= INFINITY:
                    return start + i
    return -1
