"""sha256 of files, remembered: a base of many gigabytes is read once, not at every run.

What is remembered is trusted as long as path, inode, size and time of change are the same
(`digests.json` in the store). A damaged memory is forgotten, never an error.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline import places
from pipeline.values import digest_of_file, read_json, write_json

SETTLED = 2 * 10**9  # ns; a file changed later than this may change again within one clock tick


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes; known at once if the file was seen before.

    Raises:
        OSError: the file cannot be read.
    """
    real = path.resolve()
    stamp = _stamp(real)
    known = _remembered().get(str(real))
    if isinstance(known, dict) and known.get("stamp") == stamp and "sha256" in known:
        return str(known["sha256"])
    digest = digest_of_file(real)
    if stamp == _stamp(real) and time.time_ns() - stamp[2] > SETTLED:
        _remember(str(real), {"stamp": stamp, "sha256": digest})
    return digest


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _memory() -> Path:
    return places.home() / "digests.json"


def _remembered() -> dict[str, Any]:
    try:
        known = read_json(_memory())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(path: str, entry: dict[str, Any]) -> None:
    places.home().mkdir(parents=True, exist_ok=True)
    with FileLock(f"{_memory()}.lock"):  # read, add, write: two writers keep each other's entries
        kept = {known: value for known, value in _remembered().items() if os.path.exists(known)}
        write_json(_memory(), kept | {path: entry})
