"""A text as words: of any script, in small letters."""

from __future__ import annotations

import re

# Scripts without blanks between words: each character is one.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0e7f"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+(?:['\u2019][^\W_{_ALONE}]+)*")


def words(text: str) -> list[str]:
    """Its words; punctuation is left out."""
    return _WORD.findall(text.casefold())


def grams(text: str, size: int) -> list[tuple[str, ...]]:
    """Runs of so many words, one from each word on."""
    found = words(text)
    return [tuple(found[i : i + size]) for i in range(len(found) - size + 1)]
