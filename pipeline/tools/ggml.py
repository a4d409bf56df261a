"""The door to ggml's quantizers: rows of float32 to the bytes of a GGUF tensor, in this process.

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
