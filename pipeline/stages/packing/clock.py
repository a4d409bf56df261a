"""Where the time goes: seconds of all threads together, by what they did."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class Clock:
    """Called with a name, it counts the time of a block of code."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = Lock()

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Add the seconds of the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            with self._lock:
                self.seconds[what] = self.seconds.get(what, 0.0) + spent
