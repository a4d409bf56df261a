"""How far the set-up is: one living line on a terminal, a line every twenty seconds in a pipe."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TextIO

_PIPE_SECONDS = 20.0
_TERMINAL_SECONDS = 0.2


@dataclass
class _Running:
    expected: float
    since: float = field(default_factory=time.monotonic)
    share: float = 0.0  # 0: the program does not say

    def __str__(self) -> str:
        spent = time.monotonic() - self.since
        if self.share <= 0:
            return f"{duration(spent)} of about {duration(max(spent, self.expected))}"
        left = spent / self.share - spent
        return f"{self.share:.0%}, {duration(left)} left"


class Progress:
    """Tells what begins, how far it is and what is done. Use as a context manager."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._terminal = self._out.isatty()
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ticker.join()
        self._clear()

    def begin(self, name: str, seconds: float) -> None:
        """A step begins that is expected to take so many seconds."""
        with self._lock:
            self._running[name] = _Running(seconds)
            if not self._terminal:
                self._line(f"  {name} …")

    def at(self, name: str, done: int, total: int) -> None:
        """So many parts of it are done."""
        self._running[name].share = done / total

    def end(self, name: str) -> None:
        """A step is done."""
        with self._lock:
            spent = time.monotonic() - self._running.pop(name).since
            self._clear()
            self._line(f"  {name}: done in {duration(spent)}")

    def _tick(self) -> None:
        while not self._over.wait(_TERMINAL_SECONDS if self._terminal else _PIPE_SECONDS):
            with self._lock:
                text = "  " + " · ".join(f"{name} {how}" for name, how in self._running.items())
                if self._terminal:
                    width = shutil.get_terminal_size().columns - 1
                    self._out.write(f"\r\033[K{text[:width]}")
                    self._out.flush()
                elif self._running:
                    self._line(text)

    def _clear(self) -> None:
        if self._terminal:
            self._out.write("\r\033[K")
            self._out.flush()

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


def duration(seconds: float) -> str:
    """`42 s`, `3 min 10 s`, `1 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
