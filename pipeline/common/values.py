"""Small values that every layer shares: canonical text, digests, conversations, whole files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

BLOCK = 8 << 20  # bytes read at once


_CANONICAL = json.JSONEncoder(  # json.dumps would make one at each call
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
).encode


class Message(TypedDict):
    """One turn of a conversation."""

    role: str  # system, user or assistant
    content: str


Conversation = list[Message]


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no blanks, no NaN."""
    return _CANONICAL(value)


def digest_of(value: Any) -> str:
    """sha256 (hex) of the canonical text of a JSON value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_of_file(path: Path, read: Callable[[int], object] = lambda count: None) -> str:
    """sha256 (hex) of a file's bytes.

    Args:
        read: told after each block how many bytes it had.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
            read(len(block))
    return digest.hexdigest()


def digest_of_files(folder: Path, names: list[str]) -> str:
    """sha256 (hex) over the named files of a folder: each name with its own digest, sorted."""
    return digest_of({name: digest_of_file(folder / name) for name in sorted(names)})


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write beside `path`; renamed onto it when the block ends well, removed when not.

    The file and its name are on the disk when this returns: a power cut leaves the old or the new.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        sync(beside)
        os.replace(beside, path)
        sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, whole or not at all, for the owner alone."""
    with whole(path) as beside:
        beside.touch(mode=0o600)
        beside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
