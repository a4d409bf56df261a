"""numba, set up for kernels that repeat another program's roundings, and where its code is kept.

No fastmath: every float32 operation is rounded once, in the order that is written. LLVM joins no
product and sum into one FMA unless told to, which a test reads in the machine code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pipeline.common import places

F = TypeVar("F", bound=Callable[..., Any])


def use_cache() -> Path:
    """Name the folder of compiled code, in the environment: NUMBA_CACHE_DIR if it is set.

    To be called before numba is imported. The folder goes by the versions, the CPU and our own
    source: numba does not see when a function has changed that a cached one calls.
    """
    if not os.environ.get("NUMBA_CACHE_DIR"):
        key = hashlib.sha256(version("numba").encode() + version("numpy").encode())
        here = Path(__file__)
        for file in (here, here.with_name("float_bits.py"), *sorted(here.parent.glob("kernels_*"))):
            key.update(file.read_bytes())
        folder = places.cache_home() / f"numba-{key.hexdigest()[:8]}-{places.cpu_key()}"
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
    return Path(os.environ["NUMBA_CACHE_DIR"])


@cache
def _numba() -> Any:
    folder = use_cache()
    import numba

    numba.config.CACHE_DIR = str(folder)  # something else may have imported it before
    numba.config.CACHE_LOCATOR_CLASSES = "pipeline.stages.packing.locator.Locator"
    return numba


_EXACT = {"nogil": True, "boundscheck": False, "error_model": "numpy"}


def kernel(*arguments: Any) -> Callable[[F], F]:
    """Compile a function now for these arguments, or load its code from the cache."""

    def compiled(function: F) -> F:
        made: F = _numba().njit(arguments, cache=True, **_EXACT)(function)
        return made

    return compiled


def part(function: F) -> F:
    """A function that kernels call; compiled as a part of them."""
    made: F = _numba().njit(**_EXACT)(function)
    return made


def inlined(function: F) -> F:
    """A few operations, put into each loop that uses them."""
    made: F = _numba().njit(forceinline=True, **_EXACT)(function)
    return made


def read(dtype: str) -> Any:
    """The type of a flat array that a kernel only reads; a writable one will do as well."""
    types = _numba().types
    return types.Array(getattr(types, dtype), 1, "C", readonly=True)


def written(dtype: str) -> Any:
    """The type of a flat array that a kernel writes to."""
    types = _numba().types
    return types.Array(getattr(types, dtype), 1, "C")


def number(dtype: str) -> Any:
    """The type of one number."""
    return getattr(_numba().types, dtype)
