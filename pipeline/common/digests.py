"""sha256 of files, remembered: a base of many gigabytes is read once, not at every run.

What is remembered is trusted as long as path, device, inode, size and both times of change are the
same (`digests.json` in the store): mtime is what `cp -p` gives back, ctime is nobody's to set. A
damaged memory is forgotten, never an error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.common import places, private
from pipeline.common.values import digest_of_file, read_json, write_json

SETTLED = 2 * 10**9  # ns; a file changed later than this may change again within one clock tick


def file_digest(path: Path, read: Callable[[int], object] = lambda count: None) -> str:
    """sha256 (hex) of a file's bytes; known at once if the file was seen before.

    Args:
        read: told after each block that had to be read how many bytes it had.

    Raises:
        OSError: the file cannot be read.
    """
    real = path.resolve()
    stamp = _stamp(real)
    if entry := _entry(real, stamp):
        return entry
    digest = digest_of_file(real, read)
    if stamp == _stamp(real) and time.time_ns() - real.stat().st_ctime_ns > SETTLED:
        _remember(str(real), {"stamp": stamp, "sha256": digest})
    return digest


def kept(path: Path, what: str, found: Callable[[], str], others: Iterable[Path] = ()) -> str:
    """What was found of a file's bytes; remembered beside its sha256, and as long as that.

    Args:
        what: a name for it.
        others: files that it depends on as well.

    Raises:
        OSError: a file cannot be read.
    """
    real = path.resolve()
    name = ".".join([what, *(file_digest(other)[:16] for other in others)])
    stamp, before = _stamp(real), file_digest(path)
    entry = _remembered().get(str(real))
    known = entry if isinstance(entry, dict) and entry.get("stamp") == stamp else {}
    if value := str(known.get(name) or ""):
        return value
    value = found()
    if known and stamp == _stamp(real):
        _remember(str(real), {"stamp": stamp, "sha256": before, name: value})
    return value


def unread(paths: Iterable[Path]) -> int:
    """Bytes that `file_digest` would have to read of these files."""
    real = [path.resolve() for path in paths]
    return sum(path.stat().st_size for path in real if not _entry(path, _stamp(path)))


def _entry(real: Path, stamp: list[int]) -> str:
    known = _remembered().get(str(real))
    if not isinstance(known, dict) or known.get("stamp") != stamp:
        return ""
    return str(known.get("sha256", ""))


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _memory() -> Path:
    return places.home() / "digests.json"


def _remembered() -> dict[str, Any]:
    try:
        known = read_json(_memory())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(path: str, entry: dict[str, Any]) -> None:
    private.folder(places.home())
    # read, add, write: two writers keep each other's entries
    with FileLock(f"{_memory()}.lock", mode=0o600):
        kept = {known: value for known, value in _remembered().items() if os.path.exists(known)}
        with suppress(OSError):  # it is only a memory
            write_json(_memory(), kept | {path: entry})
