"""Whether an answer is in its reference's language."""

from __future__ import annotations

from functools import cache
from typing import Any

LETTERS = 40  # of a text; in fewer, names decide
SURE = 0.9  # of the model that tells languages apart


def strayed(text: str, reference: str) -> str:
    """The other language that an answer is in (`es`); '' where it is its reference's.

    Also '' where either is too short to tell, or the model is not sure of it.
    """
    if not comparable(text, reference):
        return ""
    wanted, _ = _known().classify(reference)
    found, sure = _known().classify(text)
    return str(found) if found != wanted and sure >= SURE else ""


def comparable(text: str, reference: str) -> bool:
    """Both are long enough to tell."""
    return all(sum(c.isalpha() for c in each) >= LETTERS for each in (text, reference))


@cache
def _known() -> Any:
    from py3langid import langid

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
