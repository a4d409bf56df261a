"""Numbers as people write them: `12,50`, `12.50`, `1,234.50`, `1.234,50` and `1 234,50`."""

from __future__ import annotations

import re

# With a blank or an apostrophe, thousands have to be three digits; a full stop ends a sentence.
_BLANK = "[ \u00a0\u202f\u2019']"
NUMBER = rf"\d{{1,3}}(?:{_BLANK}\d{{3}})+(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)*"


def plain(text: str) -> str:
    """The same number in one form: `12.5`.

    One mark before exactly three digits is taken for thousands: `1.234` is 1234, as `1,234` is.
    """
    digits = re.sub(_BLANK, "", text)
    marks = [mark for mark in digits if mark in ".,"]
    whole, part = digits, ""
    if marks:
        before, _, after = digits.rpartition(marks[-1])
        thousands = len(after) == 3 and before.strip("0.,") != "" and len(set(marks)) == 1
        if not thousands and marks.count(marks[-1]) == 1:
            whole, part = before, after
    whole = re.sub(r"[.,]", "", whole).lstrip("0") or "0"
    return f"{whole}.{part.rstrip('0')}".rstrip(".")
