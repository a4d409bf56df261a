"""How like its reference an answer is, letter by letter: chrF++ (Popović 2017), 0 to 100.

Of runs of up to six characters and two words; recall counts twice, so long answers gain.
"""

from __future__ import annotations

from functools import cache
from typing import Any


def likeness(text: str, reference: str) -> float:
    """Of one answer."""
    return float(_chrf().sentence_score(text, [reference]).score)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=2)
