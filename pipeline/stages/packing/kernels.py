"""The door to the compiled kernels: quantizers, and whether their bytes are llama.cpp's; the merge.

numba is imported on first use, and the machine code of a family of kernels with the first of it: a
run that makes Q8_0 does not load the K-quants. No kernel holds Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.stages.packing.compiling import use_cache
from pipeline.tools import ggml

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Quantizer = Callable[[NDArray[np.float32], NDArray[np.uint8]], None]

# Numbers and bytes of a block, and where the kernel is.
TYPES = {
    "F16": (1, 2, "kernels_flat", "f16"),
    "BF16": (1, 2, "kernels_flat", "bf16"),
    "Q4_0": (32, 18, "kernels_32", "q4_0"),
    "Q8_0": (32, 34, "kernels_32", "q8_0"),
    "Q4_K": (256, 144, "kernels_k45", "q45_k"),
    "Q5_K": (256, 176, "kernels_k45", "q45_k"),
    "Q6_K": (256, 210, "kernels_k6", "q6_k"),
}


@cache
def missing() -> str:
    """Why there are no kernels here, empty if there are: numba compiles them for any CPU."""
    try:
        use_cache()
        for module in ("kernels_flat", "kernels_merge"):
            _module(module)
    except Exception as error:  # no numba, a broken one, a cache that cannot be written
        return str(error)
    return ""


def available() -> bool:
    """True if kernels can be used."""
    return not missing()


def doubtful(kinds: Iterable[str]) -> list[str]:
    """Types for which there is a kernel here whose bytes are not llama.cpp's."""
    return [kind for kind in sorted(kinds) if kind in TYPES and not trusted(kind)]


def compile_all() -> None:
    """Compile every kernel into the cache on disk, where it is not there yet."""
    for module in sorted({"kernels_merge", *(module for _, _, module, _ in TYPES.values())}):
        _module(module)


def _module(name: str) -> Any:
    return import_module(f"pipeline.stages.packing.{name}")


def quantizer(type_name: str) -> Quantizer | None:
    """A function of rows, shape (..., width), and of the contiguous bytes that it writes.

    It raises ValueError for a width of no whole blocks, and for bytes of another size.

    Returns:
        None if there is no kernel for the type, or no numba.
    """
    return _quantizer(type_name) if type_name in TYPES and available() else None


@cache
def _quantizer(type_name: str) -> Quantizer:
    block, size, module, name = TYPES[type_name]
    kernel = getattr(_module(module), name)
    constants = getattr(_module(module), type_name, ())  # a family's kernel is told which type

    def quantize(rows: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
        if rows.shape[-1] % block or out.size * block != rows.size * size:
            raise ValueError(f"{out.size} bytes for rows of shape {rows.shape} in {type_name}")
        if not out.flags.c_contiguous:
            raise ValueError("the bytes to write must be contiguous")
        kernel(rows.reshape(-1), out.reshape(-1), *constants)

    return quantize


def widen_bf16(bits: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """The float32 of bfloat16 bits; both flat."""
    _same_size(bits, out)
    _module("kernels_flat").widen_bf16(bits, out)


def add_update(
    weights: NDArray[np.float32],
    b: NDArray[np.float32],
    a: NDArray[np.float32],
    scale: np.float32,
) -> None:
    """weights += scale * (b @ a), in place; shapes (rows, columns), (rows, rank), (rank, columns).

    All are C-contiguous; every product and sum is rounded, in the order of the rank.
    """
    (rows, columns), rank = weights.shape, len(a)
    if b.shape != (rows, rank) or a.shape != (rank, columns) or not weights.flags.c_contiguous:
        raise ValueError(f"shapes {weights.shape}, {b.shape}, {a.shape}")
    flat = (weights.reshape(-1), b.reshape(-1), a.reshape(-1))
    _module("kernels_merge").add_update(*flat, scale, rank, columns)


def round_f16(weights: NDArray[np.float32]) -> None:
    """Round to float16 and back, in place; flat. What it cannot hold becomes infinite."""
    _module("kernels_flat").round_f16(weights)


def round_bf16(weights: NDArray[np.float32]) -> None:
    """Round to bfloat16 and back, in place; flat."""
    _module("kernels_flat").round_bf16(weights)


def first_not_finite(weights: NDArray[np.float32]) -> int:
    """Index of the first NaN or infinity, -1 if there is none; flat."""
    return int(_module("kernels_flat").first_not_finite(weights))


def _same_size(one: NDArray[Any], other: NDArray[Any]) -> None:
    if one.size != other.size:  # a kernel does not look where an array ends
        raise ValueError(f"arrays of {one.size} and {other.size}")


@cache
def trusted(type_name: str) -> bool:
    """True if a kernel makes the bytes of the library here, on blocks of many kinds; milliseconds.

    A library that was compiled for another CPU may round in another way, with FMA for example; so
    might another numba.

    Raises:
        Missing: the library was not built.
    """
    import numpy as np

    rows = _blocks()
    theirs = ggml.quantize(type_name, rows)
    made = np.zeros_like(theirs)
    try:
        ours = quantizer(type_name)
        if ours is None:
            return False
        ours(rows, made)
    except Exception:  # numba cannot compile it here
        return False
    return bool(np.array_equal(made, theirs))


def _blocks() -> NDArray[np.float32]:
    """Rows of 256, as many as leave lanes of the kernels empty, of every kind of finite number."""
    import numpy as np

    random = np.random.default_rng(0)
    kinds = [0.02 * random.standard_normal((16, 256)), 0.01 * random.standard_t(2, (16, 256))]
    by_sub_block = random.standard_normal((11, 16)).repeat(16, axis=1)
    kinds += [by_sub_block, np.zeros((1, 256)), np.round(kinds[0] * 200)]
    kinds += [kinds[0] * (abs(by_sub_block[0]) > 0.5)]
    kinds += [kinds[0][:11] * 10.0 ** random.uniform(-40, 36, (11, 1))]
    kinds += [kinds[0] * 10.0 ** random.uniform(-12, 4, (16, 16)).repeat(16, axis=1)]
    return np.concatenate(kinds).astype(np.float32)
