"""What strangers wrote: JSON is read within bounds, names are shown without harm to a terminal."""

from __future__ import annotations

import json
import math
from typing import Any

LONGEST = 32 << 20  # bytes: tokenizer_config.json of a large vocabulary has two million
DEEPEST = 32  # objects and lists within each other; Python's own JSON ends near a thousand


def read_object(raw: bytes, *, once: bool = False) -> dict[str, Any]:
    """A JSON object of finite numbers and whole characters.

    Args:
        once: a name that stands twice is an error; otherwise the last one counts, as in json.

    Raises:
        ValueError: what is wrong with it.
    """
    if len(raw) > LONGEST:
        raise ValueError(f"it has {len(raw)} bytes, more than {LONGEST}")
    try:
        value = json.loads(
            raw.decode("utf-8"),
            parse_constant=_no_number,
            parse_float=_finite,
            object_pairs_hook=_no_name_twice if once else None,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    _check(value)
    return value


def shown(text: object, most: int = 80) -> str:
    """A stranger's text for a message: no control character, no line break, not long."""
    plain = str(text)
    plain = plain if plain.isprintable() else ascii(plain)
    return plain if len(plain) <= most else plain[: most - 2] + " …"


def listed(names: list[str], most: int = 6) -> str:
    """Some names and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name, 40) for name in names[:most]) + more


_TOO_DEEP = f"it is nested more than {DEEPEST} deep"


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {shown(text, 30)} is too large")
    return value


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{shown(twice)} stands in it twice")
    return found


def _check(value: object) -> None:
    """Refuse what parses but cannot be written again: too deep, or half a character."""
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(_TOO_DEEP)
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii():
                item.encode("utf-8")  # UnicodeEncodeError is a ValueError
        level, depth = below, depth + 1
