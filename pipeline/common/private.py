"""What we write is its owner's alone: conversations, SYSTEM, records and logs.

Files are made 0600 and folders 0700, as the XDG rules ask; by foreign libraries too, because the
umask of the process says so. Standard library only: `server` reads it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.common import places

MASK = 0o077
_found: int | None = None  # the user's own umask


def shield() -> None:
    """From here on this process makes nothing that others may read; what it made is tightened."""
    global _found
    mask = os.umask(MASK)
    _found = mask if _found is None else _found
    ours = [places.home() / name for name in ("stages", "releases", "reports")]
    for known in (*ours, places.state_home()):
        _tighten(known)
    _tighten(places.home() / "digests.json")
    if "SPECIALIST_HOME" not in os.environ:  # else it may be a folder with other things in it
        _tighten(places.home())


def users_umask() -> int:
    """The umask that the user had; -1 where it is still so (as `subprocess` takes it)."""
    return -1 if _found is None else _found


@contextmanager
def as_the_user() -> Iterator[None]:
    """For files of the user's own project: made as an editor would make them."""
    mask = os.umask(MASK)
    os.umask(mask if _found is None else _found)
    try:
        yield
    finally:
        os.umask(mask)


def folder(path: Path) -> Path:
    """Make a folder, and those above it that are missing, for the owner alone."""
    for missing in reversed([path, *path.parents]):
        if not missing.exists():
            missing.mkdir(mode=0o700, exist_ok=True)
    return path


def opener(path: str, flags: int) -> int:
    """For `open`: the file is made for the owner alone."""
    return os.open(path, flags, 0o600)


def _tighten(path: Path) -> None:
    try:
        mode = path.stat().st_mode & 0o777
        if mode & MASK:
            path.chmod(mode & ~MASK)
    except OSError:  # absent, or another user's: writing there will say so
        pass
