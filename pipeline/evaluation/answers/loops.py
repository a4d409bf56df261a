"""An answer that says the same again and again: what a small model does when it finds no end."""

from __future__ import annotations

from pipeline.evaluation.answers.wording import grams

GRAM = 4  # words
FEWEST = 12  # runs; a short answer may well say three words twice
SHARE = 0.4  # of the runs; no answer of the shipped rows repeats one


def repeated(text: str) -> float:
    """The share of runs of four words that were said before, 0 to 1."""
    found = grams(text, GRAM)
    return 1 - len(set(found)) / len(found) if found else 0.0


def loops(text: str) -> bool:
    """It goes round in circles."""
    return len(grams(text, GRAM)) >= FEWEST and repeated(text) >= SHARE
