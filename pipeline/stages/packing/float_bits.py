"""Conversions of single numbers, as ggml makes them, out of operations that every CPU has.

numba promotes a literal, and an integer times a float32, to 64 bit: so every constant here has its
type, and every result is cast back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.stages.packing.compiling import inlined

F = np.float32
I = np.int32  # noqa: E741
U = np.uint32

MAGIC = F(12582912.0)  # 1.5 * 2^23: a float32 near it has no fraction
INFINITY = U(0x7F800000)
MAGNITUDE = U(0x7FFFFFFF)
SIGN = U(0x80000000)
TO_INFINITY, TO_ZERO = F(2.0**112), F(2.0**-110)


@inlined
def bits_of(value: Any) -> Any:
    """The bits of a float32, as an unsigned integer."""
    return F(value).view(U)


@inlined
def of_bits(bits: Any) -> Any:
    """The float32 of these bits."""
    return U(bits).view(F)


@inlined
def nearest(value: Any) -> Any:
    """ggml's nearest_int: to even below 2^22, and the same odd numbers above it and for NaN."""
    return I(I(bits_of(F(value + MAGIC)) & U(0x7FFFFF)) - I(0x400000))


@inlined
def half_bits(value: Any) -> Any:
    """ggml_compute_fp32_to_fp16: to nearest even; NaN becomes the quiet one of its sign."""
    bits = bits_of(value)
    doubled = U(bits << U(1))
    bias = max(U(doubled & U(0xFF000000)), U(0x71000000))
    base = F(F(abs(value) * TO_INFINITY) * TO_ZERO)
    shifted = bits_of(F(of_bits(U(U(bias >> U(1)) + U(0x07800000))) + base))
    number = U(U(U(shifted >> U(13)) & U(0x7C00)) + U(shifted & U(0x0FFF)))
    number = U(0x7E00) if doubled > U(0xFF000000) else number
    return U(U(U(bits & SIGN) >> U(16)) | number)


@inlined
def half_value(half: Any) -> Any:
    """The float32 of the 16 bits of a half, as ggml_compute_fp16_to_fp32."""
    doubled = U(half << U(17))
    normal = F(of_bits(U(U(doubled >> U(4)) + U(0xE0 << 23))) * F(2.0**-112))
    tiny = F(of_bits(U(U(doubled >> U(17)) | U(126 << 23))) - F(0.5))
    number = bits_of(tiny) if doubled < U(1 << 27) else bits_of(normal)
    return of_bits(U(U(U(half & U(0x8000)) << U(16)) | number))


@inlined
def bfloat_bits(value: Any) -> Any:
    """ggml_compute_fp32_to_bf16: to nearest even; NaN stays one, made quiet."""
    bits = bits_of(value)
    number = U(U(bits + U(U(0x7FFF) + U(U(bits >> U(16)) & U(1)))) >> U(16))
    return U(U(bits >> U(16)) | U(64)) if U(bits & MAGNITUDE) > INFINITY else number
