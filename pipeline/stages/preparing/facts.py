"""What may not differ between two rows that are called the same: numbers, names, negations.

"29 EUR" and "39 EUR" share 0.84 of their 5-grams, and say different things.
"""

from __future__ import annotations

import re

from pipeline.common.values import digest_of

_WORD = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+")
_START = re.compile(r"(?:^|[.!?…\n])[^\w]*$")  # before a word: a sentence begins with it
_NOT = re.compile(
    r"\b(?:not|no|never|none|cannot|nicht|nie|niemals|kein\w*|nunca|jamás|jamais)\b"
    r"|n['\u2019]t\b"
    r"|\bn(?:e\s+|['\u2019])(?:\w+\W+){1,3}?pas\b",
    re.IGNORECASE,
)


def facts(turns: list[str]) -> int:
    """64 bits that are equal where numbers and names are the same, and negations as many.

    A name is a word with a capital, unless only its first letter is one and it begins a sentence.
    So German nouns are names, and "Anna called" has none.
    """
    numbers: set[str] = set()
    names: set[str] = set()
    for turn in turns:
        for found in _WORD.finditer(turn):
            word = found[0]
            if word[0].isdigit():
                numbers.add(word)
            elif word != word.lower() and word != "I" and not _begins(turn, found.start(), word):
                names.add(word)
    negations = sum(len(_NOT.findall(turn)) for turn in turns)
    return int(digest_of([sorted(numbers), sorted(names), negations])[:16], 16)


def _begins(turn: str, start: int, word: str) -> bool:
    """True for a capital that may only be there because a sentence begins."""
    return word[1:] == word[1:].lower() and bool(_START.search(turn[max(0, start - 8) : start]))
