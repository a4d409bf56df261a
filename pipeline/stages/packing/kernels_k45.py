"""The kernel of Q4_K and Q5_K, without an importance matrix.

llama.cpp tries some twenty scales for each sub-block and keeps the one of the least error, number
after number. Here each of 64 SIMD lanes is a sub-block and does the same float32 operations in the
same order, so the bytes are the same. A level is found by adding a number so large that the sum has
no fraction, which holds below 2^22: lanes that could leave that range (infinity, NaN, denormal
scales, all zero) are marked, and done again by scalar code that rounds as llama.cpp does there.

All state of the lanes lies in one flat array: a quantity q of lane k is at q + k, its i-th number
at q + i * LANES + k. With constant offsets into one array LLVM sees that nothing overlaps, and
vectorises; with rows of a two-dimensional array it did not, and was ten times slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stages.packing.compiling import kernel, number, part, read, written
from pipeline.stages.packing.float_bits import MAGIC, F, I, U, half_bits, half_value, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUPER = 256  # numbers that share the two bytes of a scale
LANES = 64
UNROLLED = 8  # numbers in a loop over lanes; with 16 of the asymmetric kind LLVM gives up
IN_RANGE = F(4194000.0)  # a little less than 2^22

# number = scale * level + minimum, in sub-blocks of 32; the minimum is 0 or below
X, WEIGHT, LEVEL = 0, 32 * LANES, 64 * LANES
LOWEST, HIGHEST, SUM_W, SUM_WX = (i * LANES for i in range(96, 100))
SCALE, MINIMUM, ERROR, INVERSE = (i * LANES for i in range(100, 104))
SUM_WL, SUM_WLL, SUM_WLX = (i * LANES for i in range(104, 107))
NEW_SCALE, NEW_MINIMUM, NEW_ERROR, DIVISOR = (i * LANES for i in range(107, 111))
MARKED = 111 * LANES
STEPS, SHIFTS = 112 * LANES, 116 * LANES  # of a super-block, one for each number
SCRATCH = 120 * LANES


def factors(least: float, distance: float, steps: int, top: int) -> NDArray[np.float32]:
    """The tried scales, as multiples of 1 / (highest - lowest); rounded as in make_qkx2_quants."""
    tried = [F(F(F(least) + F(F(distance) * F(i))) + F(top)) for i in range(steps + 1)]
    return np.array(tried, np.float32)


Q4_K = (15, factors(-1.0, 0.1, 20, 15))
Q5_K = (31, factors(-0.5, 0.1, 15, 31))


@part
def _load(x: Any, start: Any, lanes: Any, s: Any) -> None:
    """Numbers, weights and their sums of so many sub-blocks, from x[start] on."""
    for i in range(32 * LANES):
        s[X + i] = F(0)
    for k in range(lanes):
        for i in range(32):
            s[X + i * LANES + k] = x[start + k * 32 + i]
    for k in range(LANES):
        s[SUM_W + k] = F(0)
    for i in range(32):
        for k in range(LANES):
            s[SUM_W + k] += s[X + i * LANES + k] * s[X + i * LANES + k]
    for k in range(LANES):
        s[NEW_ERROR + k] = np.sqrt(F(s[SUM_W + k] * F(0.03125)))
    for i in range(32):
        for k in range(LANES):
            s[WEIGHT + i * LANES + k] = s[NEW_ERROR + k] + abs(s[X + i * LANES + k])
    for k in range(LANES):
        s[LOWEST + k] = s[HIGHEST + k] = s[X + k]
        s[SUM_W + k] = s[WEIGHT + k]
        s[SUM_WX + k] = s[WEIGHT + k] * s[X + k]
    for i in range(1, 32):
        for k in range(LANES):
            value, weight = s[X + i * LANES + k], s[WEIGHT + i * LANES + k]
            s[LOWEST + k] = value if value < s[LOWEST + k] else s[LOWEST + k]
            s[HIGHEST + k] = value if value > s[HIGHEST + k] else s[HIGHEST + k]
            s[SUM_W + k] += weight
            s[SUM_WX + k] += weight * value


@part
def _set_inverse(factor: Any, s: Any) -> None:
    """The next scale to try, inverted; mark lanes where a level would leave the range."""
    for k in range(LANES):
        minimum = s[MINIMUM + k]
        inverse = factor / F(s[HIGHEST + k] - minimum)
        s[INVERSE + k] = inverse
        above, below = abs(F(s[HIGHEST + k] - minimum)), abs(F(s[LOWEST + k] - minimum))
        reach = abs(inverse) * (below if below > above else above)
        s[MARKED + k] = s[MARKED + k] if reach < IN_RANGE else F(1)


@part
def _first(top: Any, s: Any) -> None:
    """The plain scale and minimum, and their error."""
    for k in range(LANES):
        minimum = s[LOWEST + k]
        s[MINIMUM + k] = F(0) if minimum > F(0) else minimum
        s[MARKED + k] = s[ERROR + k] = F(0)
    _set_inverse(top, s)
    for k in range(LANES):
        s[SCALE + k] = F(1) / s[INVERSE + k]
    for i in range(32):
        for k in range(LANES):
            value, minimum = s[X + i * LANES + k], s[MINIMUM + k]
            level = F(F(s[INVERSE + k] * F(value - minimum)) + MAGIC) - MAGIC
            level = top if level > top else level
            level = F(0) if level < F(0) else level
            miss = F(F(s[SCALE + k] * level) + minimum) - value
            s[ERROR + k] += s[WEIGHT + i * LANES + k] * F(miss * miss)


@part
def _try(factor: Any, top: Any, s: Any) -> None:
    """Levels at another scale, the scale and minimum that fit them best; keep them if better.

    The kept minimum is the one that the next try starts from: tries depend on each other.
    """
    _set_inverse(factor, s)
    for k in range(LANES):
        s[SUM_WL + k] = s[SUM_WLL + k] = s[SUM_WLX + k] = F(0)
    for i in range(0, 32, UNROLLED):
        for k in range(LANES):
            minimum, inverse = s[MINIMUM + k], s[INVERSE + k]
            sum_wl, sum_wll, sum_wlx = s[SUM_WL + k], s[SUM_WLL + k], s[SUM_WLX + k]
            for u in range(UNROLLED):
                value = s[X + (i + u) * LANES + k]
                level = F(F(inverse * F(value - minimum)) + MAGIC) - MAGIC
                level = top if level > top else level
                level = F(0) if level < F(0) else level
                s[LEVEL + (i + u) * LANES + k] = level
                product = s[WEIGHT + (i + u) * LANES + k] * level
                sum_wl += product
                sum_wll += product * level
                sum_wlx += product * value
            s[SUM_WL + k], s[SUM_WLL + k], s[SUM_WLX + k] = sum_wl, sum_wll, sum_wlx
    for k in range(LANES):
        sum_wl, sum_wll, sum_wlx = s[SUM_WL + k], s[SUM_WLL + k], s[SUM_WLX + k]
        sum_w, sum_wx = s[SUM_W + k], s[SUM_WX + k]
        divisor = F(sum_w * sum_wll) - F(sum_wl * sum_wl)
        scale = F(F(sum_w * sum_wlx) - F(sum_wx * sum_wl)) / divisor
        minimum = F(F(sum_wll * sum_wx) - F(sum_wl * sum_wlx)) / divisor
        through_zero = sum_wlx / sum_wll
        s[NEW_SCALE + k] = through_zero if minimum > F(0) else scale
        s[NEW_MINIMUM + k] = F(0) if minimum > F(0) else minimum
        s[DIVISOR + k] = divisor
        s[NEW_ERROR + k] = F(0)
    for i in range(0, 32, UNROLLED):
        for k in range(LANES):
            scale, minimum, error = s[NEW_SCALE + k], s[NEW_MINIMUM + k], s[NEW_ERROR + k]
            for u in range(UNROLLED):
                fitted = F(scale * s[LEVEL + (i + u) * LANES + k]) + minimum
                miss = F(fitted - s[X + (i + u) * LANES + k])
                error += s[WEIGHT + (i + u) * LANES + k] * F(miss * miss)
            s[NEW_ERROR + k] = error
    for k in range(LANES):
        better = (s[DIVISOR + k] > F(0)) & (s[NEW_ERROR + k] < s[ERROR + k])
        s[ERROR + k] = s[NEW_ERROR + k] if better else s[ERROR + k]
        s[SCALE + k] = s[NEW_SCALE + k] if better else s[SCALE + k]
        s[MINIMUM + k] = s[NEW_MINIMUM + k] if better else s[MINIMUM + k]


@part
def _exact(x: Any, top: Any, tried: Any, levels: Any) -> Any:
    """Scale, minimum and levels of one sub-block: make_qkx2_quants with its weights."""
    lowest = highest = x[0]
    for i in range(1, 32):
        lowest = x[i] if x[i] < lowest else lowest
        highest = x[i] if x[i] > highest else highest
    minimum = F(0) if lowest > F(0) else lowest
    for i in range(32):
        levels[i] = I(0)
    if highest == minimum:
        return F(0), minimum
    weights, new = np.empty(32, np.float32), np.empty(32, np.int32)
    square = F(0)
    for i in range(32):
        square += x[i] * x[i]
    mean = np.sqrt(F(square * F(0.03125)))
    for i in range(32):
        weights[i] = mean + abs(x[i])
    sum_w, sum_wx = weights[0], F(weights[0] * x[0])
    for i in range(1, 32):
        sum_w += weights[i]
        sum_wx += weights[i] * x[i]
    inverse = F(top) / F(highest - minimum)
    scale = F(1) / inverse
    error = F(0)
    for i in range(32):
        levels[i] = max(I(0), min(top, nearest(F(inverse * F(x[i] - minimum)))))
        miss = F(F(F(scale * F(levels[i])) + minimum) - x[i])
        error += weights[i] * F(miss * miss)
    for factor in tried:
        inverse = factor / F(highest - minimum)
        sum_wl = sum_wll = sum_wlx = F(0)
        for i in range(32):
            new[i] = max(I(0), min(top, nearest(F(inverse * F(x[i] - minimum)))))
            level = F(new[i])
            product = weights[i] * level
            sum_wl += product
            sum_wll += product * level
            sum_wlx += product * x[i]
        divisor = F(F(sum_w * sum_wll) - F(sum_wl * sum_wl))
        if divisor > F(0):
            new_scale = F(F(F(sum_w * sum_wlx) - F(sum_wx * sum_wl)) / divisor)
            new_minimum = F(F(F(sum_wll * sum_wx) - F(sum_wl * sum_wlx)) / divisor)
            if new_minimum > F(0):
                new_minimum, new_scale = F(0), F(sum_wlx / sum_wll)
            new_error = F(0)
            for i in range(32):
                miss = F(F(F(new_scale * F(new[i])) + new_minimum) - x[i])
                new_error += weights[i] * F(miss * miss)
            if new_error < error:
                for i in range(32):
                    levels[i] = new[i]
                error, scale, minimum = new_error, new_scale, new_minimum
    return scale, minimum


@part
def _pack(x: Any, lane: Any, top: Any, tried: Any, levels: Any, s: Any, out: Any) -> None:
    """One super-block, its sub-blocks in the lanes from `lane` on: scales in 6 bits, levels."""
    for j in range(8):
        if s[MARKED + lane + j] != F(0):
            found = _exact(x[32 * j : 32 * j + 32], top, tried, levels[:32])
            s[SCALE + lane + j], s[MINIMUM + lane + j] = found
    largest_scale = largest_depth = F(0)
    for j in range(8):
        scale, depth = s[SCALE + lane + j], F(-s[MINIMUM + lane + j])
        largest_scale = scale if scale > largest_scale else largest_scale
        largest_depth = depth if depth > largest_depth else largest_depth
    to_code = F(F(63) / largest_scale) if largest_scale > F(0) else F(0)
    to_depth_code = F(F(63) / largest_depth) if largest_depth > F(0) else F(0)
    half, half_depth = half_bits(F(largest_scale / F(63))), half_bits(F(largest_depth / F(63)))
    out[0], out[1] = half & U(255), half >> U(8)
    out[2], out[3] = half_depth & U(255), half_depth >> U(8)
    for j in range(8):
        code = min(I(63), I(nearest(F(to_code * s[SCALE + lane + j])) & I(255)))
        depth = F(-s[MINIMUM + lane + j])
        depth_code = min(I(63), I(nearest(F(to_depth_code * depth)) & I(255)))
        if j < 4:
            out[4 + j], out[8 + j] = code, depth_code
        else:
            out[8 + j] = I(code & I(15)) | I(I(depth_code & I(15)) << I(4))
            out[j] |= I(I(code >> I(4)) << I(6))
            out[4 + j] |= I(I(depth_code >> I(4)) << I(6))
        step, shift = F(half_value(half) * F(code)), F(half_value(half_depth) * F(depth_code))
        for i in range(32):
            s[STEPS + 32 * j + i], s[SHIFTS + 32 * j + i] = step, shift
    for i in range(SUPER):
        level = nearest(F(F(x[i] + s[SHIFTS + i]) / s[STEPS + i]))
        levels[i] = max(I(0), min(top, level))
    for j in range(8):
        if s[STEPS + 32 * j] == F(0):  # llama.cpp keeps the levels of its search: search again
            _exact(x[32 * j : 32 * j + 32], top, tried, levels[32 * j : 32 * j + 32])


@part
def _write_levels(levels: Any, top: Any, out: Any) -> None:
    """Two low halves of levels a byte; before them, with a fifth bit, those of eight a byte."""
    at = 16
    if top > I(15):
        for i in range(32):
            fifths = I(0)
            for j in range(8):
                fifths |= I(I(levels[32 * j + i] >> I(4)) << I(j))
            out[at + i] = fifths
        at += 32
    for j in range(4):
        for i in range(32):
            low, high = levels[64 * j + i] & I(15), levels[64 * j + 32 + i] & I(15)
            out[at + 32 * j + i] = I(low | I(high << I(4)))


@kernel(read("float32"), written("uint8"), number("int32"), read("float32"))
def q45_k(
    x: NDArray[np.float32], out: NDArray[np.uint8], top: Any, tried: NDArray[np.float32]
) -> None:
    """As quantize_row_q4_K_ref and quantize_row_q5_K_ref.

    Args:
        x: whole super-blocks.
        out: 144 bytes for each in Q4_K, 176 in Q5_K.
        top, tried: the pair Q4_K or Q5_K of this module.
    """
    s, levels = np.empty(SCRATCH, np.float32), np.empty(SUPER, np.int32)
    size = 144 if top == I(15) else 176
    blocks, together = x.size // SUPER, LANES // 8
    for first in range(0, blocks, together):
        count = min(together, blocks - first)
        _load(x, first * SUPER, count * 8, s)
        _first(F(top), s)
        for factor in tried:
            _try(factor, F(top), s)
        for i in range(count):
            block = first + i
            bytes_ = out[block * size : (block + 1) * size]
            _pack(x[block * SUPER : (block + 1) * SUPER], i * 8, top, tried, levels, s, bytes_)
            _write_levels(levels, top, bytes_)
