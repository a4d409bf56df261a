"""What an answer copies from one training row: learnt by heart, or a leak of a customer's text.

What many training answers say is house style (a greeting, a closing sentence), and no copy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pipeline.evaluation.answers.wording import grams, words

RUN = 12  # words
HOUSE = 0.05  # of the training answers
Gram = tuple[str, ...]


def copies(texts: Sequence[str], training: Sequence[str]) -> list[str]:
    """Of each text the longest run of words that one training answer has, too.

    '' if none has twelve. The training answers are read once.
    """
    wanted = {gram for text in texts for gram in grams(text, RUN)}
    there = _where(wanted, training)
    most = max(1, HOUSE * len(training))
    rare = {gram: rows for gram, rows in there.items() if len(rows) <= most}
    return [_longest(text, rare) for text in texts]


def _where(wanted: set[Gram], training: Iterable[str]) -> dict[Gram, set[int]]:
    """Which training answers have a run."""
    found: dict[Gram, set[int]] = defaultdict(set)
    for row, text in enumerate(training):
        for gram in wanted.intersection(grams(text, RUN)):
            found[gram].add(row)
    return found


def _longest(text: str, rare: dict[Gram, set[int]]) -> str:
    """Runs that follow each other in the same row are one."""
    best, at = 0, 0
    since: dict[int, int] = {}
    for place, gram in enumerate(grams(text, RUN)):
        since = {row: since.get(row, place) for row in rare.get(gram, ())}
        for begin in since.values():
            if place - begin + 1 > best:
                best, at = place - begin + 1, begin
    return " ".join(words(text)[at : at + best + RUN - 1]) if best else ""
