"""Answers that were given, kept by what they depend on: JSON lines, each written as it comes.

    <home>/answers/<manifest>.jsonl     {"key", "text", "reason", "tokens"} a line

A key is the digest of all that decides an answer, the model's manifest among it: a tag that moves
never hits. They go with the versions that gave them (`specialist gc`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.common import places, private
from pipeline.release.history import History

MANIFEST = 16  # hex digits that a file is named by


def folder() -> Path:
    """Where they lie."""
    return places.home() / "answers"


def file(folder: Path, manifest: str) -> Path:
    """Those of a model, by the digest of its manifest."""
    return folder / f"{manifest.removeprefix('sha256:')[:MANIFEST]}.jsonl"


def stale(known: Iterable[History]) -> list[Path]:
    """Those of models that are no version, or a removed one."""
    there = {file(folder(), each.manifest) for one in known for each in one.there}
    return [path for path in sorted(folder().glob("*.jsonl")) if path not in there]


@dataclass(frozen=True)
class Given:
    """What a model said."""

    text: str
    reason: str
    tokens: int


class Kept:
    """The answers of one model in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = _read(file)

    def get(self, key: str) -> Given | None:
        """The answer under a key, None if it was not given yet."""
        return self._known.get(key)

    def add(self, key: str, given: Given) -> None:
        """Keep an answer: whatever stops this process then, it is not asked for again."""
        line = json.dumps({"key": key, **asdict(given)}, ensure_ascii=False).encode() + b"\n"
        private.folder(self._file.parent)
        with open(self._file, "ab", buffering=0, opener=private.opener) as file:
            end = file.seek(0, os.SEEK_END)
            if end and _last(self._file) != b"\n":  # a run was killed in the middle of a line
                line = b"\n" + line
            file.write(line)
        self._known[key] = given


def _read(file: Path) -> dict[str, Given]:
    """What is whole of it."""
    found: dict[str, Given] = {}
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            value = json.loads(line)
            key, given = value["key"], Given(value["text"], value["reason"], value["tokens"])
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(key, str) and isinstance(given.text, str) and isinstance(given.tokens, int):
            found[key] = given
    return found


def _last(file: Path) -> bytes:
    with file.open("rb") as opened:
        opened.seek(-1, os.SEEK_END)
        return opened.read(1)
