"""Memory that is let go goes back to the system.

glibc keeps freed blocks of up to 32 MB for itself once such a one was freed (mallopt(3), dynamic
mmap threshold), and what is read in blocks leaves holes that nothing fits into: 0.7 GB of 1.8 GB
where the merged weights of a base of 1 B are compared.
"""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # malloc.h
_LARGE = 1 << 20  # bytes


def give_back() -> None:
    """From now on, in this process; nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_ARENA_MAX, 2)
