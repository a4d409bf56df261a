"""The kernel of Q6_K, without an importance matrix.

As kernels_k45: a lane is a sub-block, here of 16 numbers that share a scale and have no minimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stages.packing.compiling import kernel, part, read, written
from pipeline.stages.packing.float_bits import MAGIC, F, I, U, half_bits, half_value, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUPER = 256
SIZE = 210  # bytes of a super-block
LANES = 64
IN_RANGE = F(4194000.0)  # a little less than 2^22
LEAST = F(1e-15)  # GROUP_MAX_EPS: a sub-block with nothing larger is all zero

X, WEIGHT, WEIGHTED_X = 0, 16 * LANES, 32 * LANES
LARGEST, LARGEST_SIZE, INVERSE, SUM_WLX, SUM_WLL = (i * LANES for i in range(48, 53))
SCALE, SCORE, MARKED = (i * LANES for i in range(53, 56))
STEPS = 56 * LANES  # of a super-block, one for each number
SCRATCH = 60 * LANES

# The tried scales, as multiples of 1 / largest, the plain one first.
TRIED = np.array([-F(F(32) + F(F(0.1) * F(i))) for i in (0, *range(-9, 0), *range(1, 10))], F)


@part
def _load(x: Any, start: Any, lanes: Any, s: Any) -> None:
    """Numbers and weights of so many sub-blocks, from x[start] on, and the largest of each."""
    for i in range(16 * LANES):
        s[X + i] = F(0)
    for k in range(lanes):
        for i in range(16):
            s[X + i * LANES + k] = x[start + k * 16 + i]
    for k in range(LANES):
        s[LARGEST + k] = s[LARGEST_SIZE + k] = F(0)
    for i in range(16):
        for k in range(LANES):
            value = s[X + i * LANES + k]
            size = abs(value)
            larger = size > s[LARGEST_SIZE + k]
            s[LARGEST + k] = value if larger else s[LARGEST + k]
            s[LARGEST_SIZE + k] = size if larger else s[LARGEST_SIZE + k]
            weight = F(value * value)
            s[WEIGHT + i * LANES + k] = weight
            s[WEIGHTED_X + i * LANES + k] = weight * value
    for k in range(LANES):
        s[MARKED + k] = F(1) if s[LARGEST_SIZE + k] < LEAST else F(0)


@part
def _try(factor: Any, first: Any, s: Any) -> None:
    """Levels at one scale, and the scale that fits them best; keep it if it scores better."""
    for k in range(LANES):
        inverse = factor / s[LARGEST + k]
        s[INVERSE + k] = inverse
        s[SUM_WLX + k] = s[SUM_WLL + k] = F(0)
        reach = abs(inverse) * s[LARGEST_SIZE + k]
        s[MARKED + k] = s[MARKED + k] if reach < IN_RANGE else F(1)
    for k in range(LANES):
        inverse, sum_wlx, sum_wll = s[INVERSE + k], s[SUM_WLX + k], s[SUM_WLL + k]
        for i in range(16):
            level = F(F(inverse * s[X + i * LANES + k]) + MAGIC) - MAGIC
            level = F(31) if level > F(31) else level
            level = F(-32) if level < F(-32) else level
            sum_wlx += s[WEIGHTED_X + i * LANES + k] * level
            sum_wll += F(s[WEIGHT + i * LANES + k] * level) * level
        s[SUM_WLX + k], s[SUM_WLL + k] = sum_wlx, sum_wll
    for k in range(LANES):
        sum_wlx, sum_wll = s[SUM_WLX + k], s[SUM_WLL + k]
        scale = sum_wlx / sum_wll
        if first:
            scale = F(0) if sum_wll == F(0) else scale
            s[SCALE + k], s[SCORE + k] = scale, scale * sum_wlx
        else:
            better = (sum_wll > F(0)) & (F(sum_wlx * sum_wlx) > F(s[SCORE + k] * sum_wll))
            s[SCALE + k] = scale if better else s[SCALE + k]
            s[SCORE + k] = F(scale * sum_wlx) if better else s[SCORE + k]


@part
def _level(value: Any) -> Any:
    return max(I(-32), min(I(31), nearest(value)))


@part
def _exact(x: Any, levels: Any) -> Any:
    """Scale and levels (from 0 on) of one sub-block: make_qx_quants(16, 32, ..., 1, NULL)."""
    largest = largest_size = F(0)
    for i in range(16):
        size = abs(x[i])
        largest = x[i] if size > largest_size else largest
        largest_size = size if size > largest_size else largest_size
    for i in range(16):
        levels[i] = I(0)
    scale = score = F(0)
    if largest_size < LEAST:
        return scale
    for t in range(TRIED.size):
        inverse = TRIED[t] / largest
        sum_wlx = sum_wll = F(0)
        for i in range(16):
            level, weight = F(_level(F(inverse * x[i]))), F(x[i] * x[i])
            sum_wlx += F(weight * x[i]) * level
            sum_wll += F(weight * level) * level
        better = sum_wll > F(0) and F(sum_wlx * sum_wlx) > F(score * sum_wll)
        if t == 0 or better:
            scale = F(sum_wlx / sum_wll) if sum_wll != F(0) else F(0)
            score = F(scale * sum_wlx)
            for i in range(16):
                levels[i] = _level(F(inverse * x[i])) + I(32)
    return scale


@part
def _pack(x: Any, lane: Any, levels: Any, s: Any, out: Any) -> None:
    """One super-block, its sub-blocks in the lanes from `lane` on: scales in 8 bits, levels."""
    largest = largest_size = F(0)
    for j in range(16):
        if s[MARKED + lane + j] != F(0):
            s[SCALE + lane + j] = _exact(x[16 * j : 16 * j + 16], levels[:16])
        scale = s[SCALE + lane + j]
        largest = scale if abs(scale) > largest_size else largest
        largest_size = abs(scale) if abs(scale) > largest_size else largest_size
    if largest_size < LEAST:
        for i in range(SIZE):
            out[i] = I(0)
        return
    to_code = F(F(-128) / largest)
    half = half_bits(F(F(1) / to_code))
    out[208], out[209] = half & U(255), half >> U(8)
    for j in range(16):
        code = min(I(127), nearest(F(to_code * s[SCALE + lane + j])))
        code = I(I(code << I(24)) >> I(24))
        out[192 + j] = code
        step = F(half_value(half) * F(code))
        for i in range(16):
            s[STEPS + 16 * j + i] = step
    for i in range(SUPER):
        levels[i] = _level(F(x[i] / s[STEPS + i])) + I(32)
    for j in range(16):
        if s[STEPS + 16 * j] == F(0):  # llama.cpp keeps the levels of its search: search again
            _exact(x[16 * j : 16 * j + 16], levels[16 * j : 16 * j + 16])
    for h in range(2):  # four low bits two a byte, two high bits four a byte
        for i in range(32):
            a, b = levels[128 * h + i], levels[128 * h + 32 + i]
            c, d = levels[128 * h + 64 + i], levels[128 * h + 96 + i]
            out[64 * h + i] = I(a & I(15)) | I(I(c & I(15)) << I(4))
            out[64 * h + 32 + i] = I(b & I(15)) | I(I(d & I(15)) << I(4))
            lower, upper = I(a >> I(4)) | I(I(b >> I(4)) << I(2)), I(c >> I(4)) | I(d >> I(4)) << 2
            out[128 + 32 * h + i] = I(lower | I(upper << I(4)))


@kernel(read("float32"), written("uint8"))
def q6_k(x: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """As quantize_row_q6_K_ref: 210 bytes for each 256 numbers."""
    s, levels = np.empty(SCRATCH, np.float32), np.empty(SUPER, np.int32)
    blocks, together = x.size // SUPER, LANES // 16
    for first in range(0, blocks, together):
        count = min(together, blocks - first)
        _load(x, first * SUPER, count * 16, s)
        for t in range(TRIED.size):
            _try(TRIED[t], t == 0, s)
        for i in range(count):
            block = first + i
            numbers = x[block * SUPER : (block + 1) * SUPER]
            _pack(numbers, i * 16, levels, s, out[block * SIZE : (block + 1) * SIZE])
