"""Who uses which stage directories: from when a run looks for one until the run ends.

<home>/leases/ID        names of stage directories, a line each
<home>/leases/ID.lock   held by the run; free when it has ended, however it did
<home>/leases/turn.lock held while a name is noted, and while unused directories are removed
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.common import private


class Lease:
    """The names that one run uses."""

    def __init__(self, folder: Path) -> None:
        self._folder = private.folder(folder)
        self._file = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = FileLock(f"{self._file}.lock", mode=0o600)
        self._names: set[str] = set()
        with turn(folder):  # else `leased` could meet the lock before it is held
            self._lock.acquire()

    def add(self, name: str) -> None:
        """From here on nothing removes the directory of this name, if it is there."""
        if name in self._names:
            return
        with turn(self._folder), open(self._file, "a", opener=private.opener) as names:
            names.write(f"{name}\n")
        self._names.add(name)

    def end(self) -> None:
        """The run has ended."""
        with turn(self._folder):
            self._file.unlink(missing_ok=True)
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """One at a time: to note a name, or to look who uses what and remove the rest."""
    with FileLock(private.folder(folder) / "turn.lock", mode=0o600):
        yield


def leased(folder: Path) -> set[str]:
    """The names that running commands use; what the ended ones left is removed.

    To be called in a `turn`.
    """
    found: set[str] = set()
    for held in folder.glob("*-*.lock"):
        names = held.with_suffix("")
        try:
            with FileLock(held, timeout=0):
                names.unlink(missing_ok=True)
                held.unlink(missing_ok=True)
        except Timeout:
            if names.exists():
                found |= set(names.read_text().split())
    return found
