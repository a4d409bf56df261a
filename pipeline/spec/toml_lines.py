"""Where a key of a toml stands: mistakes are named with file and line."""

from __future__ import annotations

import re

_WORD = r"""[\w-]+|"[^"]*"|'[^']*'"""
_PATH = rf"\s*((?:{_WORD})(?:\s*\.\s*(?:{_WORD}))*)\s*"
_HEADER = re.compile(rf"\s*\[{_PATH}\]")
_KEY = re.compile(rf"{_PATH}=")


def line(text: str, *path: str) -> str:
    """`:7`, where a table or a key stands, or else what it is in; '' if nothing of it is found.

    Args:
        path: names from the outside in, as `evaluate`, `rules`, `short`, `longest`.
    """
    places = _places(text)
    found = (places.get(path[:length]) for length in range(len(path), 0, -1))
    return next((f":{number}" for number in found if number), "")


def _places(text: str) -> dict[tuple[str, ...], int]:
    """The first line that names a table or a key, or something in it."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, row in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(row):
            table = place = _parts(header[1])
        elif key := _KEY.match(row):
            place = (*table, *_parts(key[1]))
        else:
            continue
        for length in range(1, len(place) + 1):
            found.setdefault(place[:length], number)
    return found


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_WORD, path))
