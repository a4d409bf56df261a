"""The door to ggml's quantizers: rows of float32 to the bytes of a GGUF tensor, and back.

The same code that llama-quantize runs, out of the same library (places.llama_bin). A call lets go
of Python's lock, so that threads can share the rows of a tensor.
"""

from __future__ import annotations

import ctypes
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

from pipeline.common import places
from pipeline.common.errors import Missing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Not for weights in a file: ggml ends the process when it is asked for them.
UNMADE = {"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"}

_ToFloat = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _Traits(ctypes.Structure):
    """ggml.h, struct ggml_type_traits."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
        ("from_float_ref", ctypes.c_void_p),
    )


_ready: set[int] = set()
_lock = Lock()


@cache
def _library() -> ctypes.CDLL:
    """libggml-base with its signatures.

    Raises:
        Missing: the library was not built.
    """
    file = places.llama_bin() / "libggml-base.so"
    if not file.exists():
        raise Missing("llama.cpp is not built on this machine", "Run: make setup")
    library = ctypes.CDLL(str(file))
    library.ggml_quantize_init.argtypes = [ctypes.c_int]
    library.ggml_quantize_init.restype = None
    library.ggml_quantize_requires_imatrix.argtypes = [ctypes.c_int]
    library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    library.ggml_blck_size.argtypes = [ctypes.c_int]
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    library.ggml_row_size.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),  # type, from, to
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    ]  # first number, rows, width, importance matrix
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_get_type_traits.argtypes = [ctypes.c_int]
    library.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    return library


def _number(type_name: str) -> int:
    from gguf.constants import GGMLQuantizationType

    return int(GGMLQuantizationType[type_name])


def row_bytes(type_name: str, width: int) -> int:
    """Bytes of a row of so many numbers.

    Raises:
        KeyError: no type of ggml has this name.
        ValueError: the type has blocks that do not divide the width.
    """
    number = _number(type_name)
    block = _library().ggml_blck_size(number)
    if width % block:
        raise ValueError(f"rows of {width} are no whole blocks of {block} for {type_name}")
    return int(_library().ggml_row_size(number, width))


def quantize(type_name: str, rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Quantize without an importance matrix.

    Args:
        type_name: ggml's name of the type, `Q4_K`; F32 is a copy.
        rows: C-contiguous, shape (rows, width).

    Returns:
        Shape (rows, bytes of a row).

    Raises:
        KeyError: no type of ggml has this name.
        ValueError: ggml would end the process: a type that it does not make, or not without an
            importance matrix; rows of another form or width.
    """
    import numpy as np

    number = _number(type_name)
    if type_name in UNMADE or _library().ggml_quantize_requires_imatrix(number):
        raise ValueError(f"ggml does not make {type_name} out of weights alone")
    if rows.ndim != 2 or rows.dtype != np.float32 or not rows.flags.c_contiguous:
        raise ValueError(f"not contiguous rows of float32: {rows.dtype}, shape {rows.shape}")
    out = np.empty((len(rows), row_bytes(type_name, rows.shape[1])), np.uint8)
    with _lock:  # it fills tables that the quantizers of some types read
        if number not in _ready:
            _library().ggml_quantize_init(number)
            _ready.add(number)
    _library().ggml_quantize_chunk(
        number, rows.ctypes.data, out.ctypes.data, 0, rows.shape[0], rows.shape[1], None
    )
    return out


def dequantize(type_name: str, raw: NDArray[np.uint8], width: int) -> NDArray[np.float32]:
    """The weights that some rows of a GGUF tensor stand for.

    Args:
        type_name: ggml's name of the type, `Q4_K`, or a type of floats.
        raw: the bytes of whole rows, flat.
        width: weights of a row.

    Returns:
        Shape (rows, width).

    Raises:
        KeyError: no type of ggml has this name.
        ValueError: a type of no weights, or bytes that are no whole rows.
    """
    import numpy as np

    a_row = row_bytes(type_name, width)
    if raw.ndim != 1 or len(raw) % a_row or not raw.flags.c_contiguous:
        raise ValueError(f"{raw.shape} bytes are no rows of {width} in {type_name}")
    if type_name == "F32":
        return raw.view(np.float32).reshape(-1, width).copy()
    address = _library().ggml_get_type_traits(_number(type_name)).contents.to_float
    if not address:
        raise ValueError(f"{type_name} holds no weights")
    out = np.empty((len(raw) // a_row, width), np.float32)
    _ToFloat(address)(raw.ctypes.data, out.ctypes.data, out.size)
    return out
