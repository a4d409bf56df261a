"""Kernels of the types whose blocks are 32 numbers and a scale: Q8_0 and Q4_0.

The largest number of a block is sought in the bits of the magnitudes, which order as the numbers do
and, being integers, may be compared in any order: that is what lets LLVM take eight at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stages.packing.compiling import inlined, kernel, read, written
from pipeline.stages.packing.float_bits import (
    INFINITY,
    MAGNITUDE,
    SIGN,
    F,
    I,
    U,
    half_bits,
    of_bits,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 32
INTEGERS = F(2147483000.0)  # what is below fits an int32


@inlined
def _held(value: Any) -> Any:
    """The number, or 0 for one whose integer part x86 makes 0x80000000 of: a byte keeps 0 of it."""
    return value if abs(value) < INTEGERS else F(0)


@inlined
def _nibble(value: Any) -> Any:
    """At most 15, out of the low byte of the integer part, read as an int8."""
    return min(I(15), I(I(I(_held(value)) << I(24)) >> I(24)))


@inlined
def _largest(numbers: Any, block: Any, eight: Any) -> Any:
    """The largest number of a block, by way of the largest of every fourth."""
    for i in range(8):
        lower = max(numbers[block, i], numbers[block, i + 8])
        eight[i] = max(lower, max(numbers[block, i + 16], numbers[block, i + 24]))
    largest = eight[0]
    for i in range(1, 8):
        largest = max(largest, eight[i])
    return largest


@kernel(read("float32"), written("uint8"))
def q8_0(x: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """As quantize_row_q8_0_ref: 2 bytes of scale, 32 levels."""
    blocks = x.size // WIDTH
    values = x.reshape(blocks, WIDTH)
    bits = values.view(np.uint32)
    packed = out.reshape(blocks, WIDTH + 2)
    for block in range(blocks):
        top = U(0)
        for i in range(WIDTH):
            top = max(top, U(bits[block, i] & MAGNITUDE))
        largest = of_bits(top)
        if top > INFINITY:  # a NaN makes forget what came before it
            largest = F(0)
            for i in range(WIDTH):
                size = abs(values[block, i])
                largest = largest if largest > size else size
        scale = F(largest / F(127))
        inverse = F(F(1) / scale) if scale != F(0) else F(0)
        half = half_bits(scale)
        packed[block, 0] = half & U(255)
        packed[block, 1] = half >> U(8)
        for i in range(WIDTH):
            value = _held(F(values[block, i] * inverse))
            level = I(value)
            rest = F(value - F(level))  # roundf: halves go away from zero
            level = I(level + I(1)) if rest >= F(0.5) else level
            level = I(level - I(1)) if rest <= F(-0.5) else level
            packed[block, 2 + i] = level


@kernel(read("float32"), written("uint8"))
def q4_0(x: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """As quantize_row_q4_0_ref: 2 bytes of scale, 16 of two levels each."""
    blocks = x.size // WIDTH
    values = x.reshape(blocks, WIDTH)
    signed, bits = values.view(np.int32), values.view(np.uint32)
    packed = out.reshape(blocks, WIDTH // 2 + 2)
    eight_signed, eight = np.empty(8, np.int32), np.empty(8, np.uint32)
    for block in range(blocks):
        above = U(max(I(0), _largest(signed, block, eight_signed)))
        below = _largest(bits, block, eight)
        below = U(below & MAGNITUDE) if below > SIGN else U(0)
        largest = of_bits(above) if above > below else of_bits(U(below | SIGN))
        if above == below or above > INFINITY or below > INFINITY:
            size = largest = F(0)  # the first of equal ones; a NaN is passed over
            for i in range(WIDTH):
                value = values[block, i]
                largest = value if size < abs(value) else largest
                size = abs(value) if size < abs(value) else size
        scale = F(largest / F(-8))
        inverse = F(F(1) / scale) if scale != F(0) else F(0)
        half = half_bits(scale)
        packed[block, 0] = half & U(255)
        packed[block, 1] = half >> U(8)
        for i in range(WIDTH // 2):
            low = _nibble(F(F(values[block, i] * inverse) + F(8.5)))
            high = _nibble(F(F(values[block, i + 16] * inverse) + F(8.5)))
            packed[block, 2 + i] = I(low | I(high << I(4)))
