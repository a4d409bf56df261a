"""Where an answer differs from the reference, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

ALIKE = 0.25  # of the words; below, marks would be all over the text and help nobody
MANY = 1_000_000  # pairs of words, above which frequent ones are not looked at

_MARKS = r".,;:!?…()\[\]{}<>\"“”„«»"
_WORD = re.compile(
    r"([\u3040-\u30ff\u3400-\u9fff]"  # of scripts without blanks a sign is a word
    rf"|(?:[^\s{_MARKS}\u3040-\u30ff\u3400-\u9fff]|(?<=\d)[.,](?=\d))+|[{_MARKS}])(\s*)"
)


class Piece(NamedTuple):
    """A stretch of an answer."""

    kind: Literal["same", "ins", "del"]
    """`ins` is in the answer alone, `del` in the reference alone."""
    text: str


def differences(reference: str, answer: str) -> list[Piece] | None:
    """The answer with what it has more and less than the reference; None if little is shared."""
    left, right = _words(reference), _words(answer)
    few = len(left) * len(right) < MANY
    matcher = SequenceMatcher(
        None, [word for word, _ in left], [word for word, _ in right], autojunk=not few
    )
    shared = sum(block.size for block in matcher.get_matching_blocks())
    if shared < ALIKE * max(len(left), len(right)):
        return None
    start = answer[: len(answer) - len(answer.lstrip())]
    return [*([Piece("same", start)] if start else []), *_pieces(matcher, left, right)]


Words = list[tuple[str, str]]
"""Each with the blanks behind it."""


def _words(text: str) -> Words:
    return [(found[1], found[2]) for found in _WORD.finditer(text)]


def _pieces(matcher: SequenceMatcher[str], left: Words, right: Words) -> Iterator[Piece]:
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            yield Piece("same", _text(right[k:m]))
            continue
        if i < j:
            yield from _marked("del", left[i:j])
        if k < m:
            yield from _marked("ins", right[k:m])


def _marked(kind: Literal["ins", "del"], words: Words) -> Iterator[Piece]:
    """The blanks behind it are not marked."""
    text, blanks = _text(words), words[-1][1]
    yield Piece(kind, text[: len(text) - len(blanks)])
    if blanks:
        yield Piece("same", blanks)


def _text(words: Words) -> str:
    return "".join(word + blanks for word, blanks in words)
