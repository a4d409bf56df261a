"""A try that failed and may succeed: how often it is made again, and after how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.common.errors import ToolFailed

TRIES = 6  # in a row of which none brought anything
FIRST = 1.0  # seconds before the second try; twice as long before each one after it
LONGEST = 300.0  # seconds that a hub may ask us to wait; no run should seem dead for longer
ENOUGH = 1 << 20  # bytes: a try that brought so many was a good one

T = TypeVar("T")


class Passing(Exception):
    """What another try may get over."""

    def __init__(self, what: str, next_step: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step
        self.wait = wait
        """Seconds that the hub asks for."""


def patiently(
    once: Callable[[], T],
    told: Callable[[str], object],
    furthest: Callable[[], int] = lambda: 0,
) -> T:
    """The value of `once`, tried again while that may help.

    Args:
        told: what went wrong and when the next try is.
        furthest: how far all tries together have come, in bytes.

    Raises:
        ToolFailed: the last of several failures in a row.
    """
    failures = 0
    while True:
        before = furthest()
        try:
            return once()
        except Passing as trouble:
            failures = 1 if furthest() - before >= ENOUGH else failures + 1
            pause = FIRST * 2 ** (failures - 1) if trouble.wait is None else trouble.wait
            if failures >= TRIES or pause > LONGEST:
                raise ToolFailed(trouble.what, trouble.next_step) from trouble
            told(f"{trouble.what}; again in {pause:.0f} s")
        time.sleep(pause)
