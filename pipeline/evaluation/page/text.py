"""Texts and numbers for a page: whatever is in them, they are shown as they are, and bounded."""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST = 4000  # characters of a text that are shown

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
    "|[\U0001fffe\U0001ffff\U0010fffe\U0010ffff\u202d\u202e]"
)


class Cut(NamedTuple):
    """The beginning of a text."""

    text: str
    more: int
    """Characters that are left out."""


def cut(text: str, most: int = LONGEST) -> Cut:
    """At most so many characters."""
    return Cut(text[:most], max(0, len(text) - most))


def plain(text: str) -> str:
    """What an HTML file may hold, and nothing hidden: control characters become signs.

    So do those that turn letters round, behind which a text reads as another one.
    """
    return _HIDDEN.sub(_sign, text.replace("\r\n", "\n"))


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code in (0x202D, 0x202E):
        return f"[U+{code:X}]"
    return chr(0x2400 + code) if code < 32 else "\u2421" if code == 127 else "\ufffd"


def number(value: float, digits: int = 2) -> str:
    """With a minus that is as wide as a plus."""
    return f"{value:,.{digits}f}".replace("-", "\u2212")


def signed(value: float, digits: int = 2) -> str:
    """`+0.21`, `0.00`, and below 0 with a true minus."""
    told = f"{value:+,.{digits}f}"
    return number(0, digits) if float(told.replace(",", "")) == 0 else told.replace("-", "\u2212")
