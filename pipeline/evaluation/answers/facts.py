"""Exact facts of a text: what may be wrong in an answer that reads well.

Numbers and prices, quantities with units, codes, dates, times, e-mail and web addresses, found by
their form and brought into one: 12,50 is 12.50 and €12.50. The numbers of a list do not count, and
neither do number words and names: those have no form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from functools import lru_cache

from pipeline.evaluation.answers import dates
from pipeline.evaluation.answers.numbers import NUMBER, plain
from pipeline.evaluation.answers.units import UNITS

_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_WEB = re.compile(r"(?:https?://|www\.)[^\s<>\"'“”)\]]+", re.IGNORECASE)
_CODE = re.compile(
    r"(?<![\w-])(?=[A-Z0-9/-]*[A-Z])(?=[A-Z0-9/-]*\d)[A-Z0-9]{2,}(?:[-/][A-Z0-9]+)*(?![\w-])"
    r"|(?<![\w-])[A-Za-z]{1,6}-\d+(?:-\w+)*(?![\w-])"
)
_PHONE = re.compile(r"(?<![\w.,])(?:\+\d|0\d|\(0?\d)[\d ()/-]{5,}\d(?![\w.,]?\d)")
_UNIT = r"[ \u00a0-]?(?P<u>[^\W\d_]+|%|°[CcFf]|[\u2032\u2033])"
_AMOUNT = re.compile(rf"(?<![\d.,])(?P<n>{NUMBER})(?:{_UNIT})?")
_ITEM = re.compile(r"^[ \t>*_#-]*\(?\d{1,3}[.)][*_]*(?=\s)", re.MULTILINE)
_INLINE = re.compile(r"(?<![\w.,])\(?(\d{1,2})[.)](?=\s)")


@dataclass(frozen=True)
class Fact:
    """One exact thing that a text says; equal to others of the same meaning."""

    kind: str
    """number, quantity, code, date, time, phone, e-mail or web."""
    value: str
    unit: str = ""
    said: str = field(default="", compare=False)
    """As the text has it."""


@lru_cache(maxsize=4096)
def facts(text: str) -> frozenset[Fact]:
    """All that it says."""
    found: list[Fact] = []
    left = text

    def take(pattern: re.Pattern[str], of: str, value: object) -> None:
        nonlocal left

        def one(match: re.Match[str]) -> str:
            said = str(value(match))  # type: ignore[operator]
            if not said:
                return match[0]
            found.append(Fact(of, said, said=match[0].strip()))
            return " \x00 "  # not a blank alone: what stood on both sides does not join

        left = pattern.sub(one, left)

    take(_MAIL, "e-mail", lambda match: match[0].lower())
    take(_WEB, "web", _address)
    for pattern in dates.DATES:
        take(pattern, "date", dates.date)
    for pattern in dates.TIMES:
        take(pattern, "time", dates.time)
    left = _unnumbered(left)
    take(_PHONE, "phone", _digits)
    take(_CODE, "code", _code)
    found += [_amount(match) for match in _AMOUNT.finditer(left)]
    return frozenset(found)


def recalled(answer: str, reference: str) -> tuple[list[Fact], list[Fact]]:
    """The reference's facts: those that the answer has, and those that it lacks."""
    there: list[Fact] = []
    lacking: list[Fact] = []
    said = facts(answer)
    for fact in _sorted(facts(reference)):
        (there if _in(fact, said) else lacking).append(fact)
    return there, lacking


def invented(answer: str, known: Iterable[str], trained: Set[Fact] = frozenset()) -> list[Fact]:
    """Facts of an answer that nothing it could know them from says.

    Args:
        known: question, history, SYSTEM and reference.
        trained: all facts of the training data.
    """
    own = facts(answer)
    if not own:
        return []
    there = frozenset(fact for text in known for fact in facts(text))
    return [fact for fact in _sorted(own) if not _in(fact, there) and not _in(fact, trained)]


def all_facts(texts: Iterable[str]) -> frozenset[Fact]:
    """Those of many texts."""
    return frozenset(fact for text in texts for fact in facts.__wrapped__(text))


def _in(fact: Fact, there: Set[Fact]) -> bool:
    """A number without a unit is as good as any with it, and the other way round."""
    if fact in there:
        return True
    if fact.kind == "quantity":
        return Fact("number", fact.value) in there
    if fact.kind == "number":
        return any(one.kind == "quantity" and one.value == fact.value for one in there)
    return False


def _sorted(some: Iterable[Fact]) -> list[Fact]:
    return sorted(some, key=lambda fact: (fact.kind, fact.value, fact.unit))


def _amount(match: re.Match[str]) -> Fact:
    value = plain(match["n"])
    unit = UNITS.get((match["u"] or "").lower(), "")
    said = match[0] if unit else match["n"]
    return Fact("quantity" if unit else "number", value, unit, said.strip())


def _address(match: re.Match[str]) -> str:
    text = match[0].lower().rstrip(".,;:!?*_/")
    return re.sub(r"^https?://(?:www\.)?|^www\.", "", text)


def _digits(match: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", match[0])
    return digits if len(digits) >= 7 else ""


def _code(match: re.Match[str]) -> str:
    """'' where it is an amount with its unit, as 12V or 500GB, or an ordinal."""
    text = match[0].upper()
    number = re.fullmatch(r"\d+([A-Z]+)", text)
    if number and (number[1].lower() in UNITS or number[1] in ("ST", "ND", "RD", "TH")):
        return ""
    return text


def _unnumbered(text: str) -> str:
    """Without the numbers of lists: 1. 2. 3. in one line, or at the beginning of lines."""
    return _ITEM.sub(" ", "\n".join(_unnumbered_line(line) for line in text.split("\n")))


def _unnumbered_line(line: str) -> str:
    items = list(_INLINE.finditer(line))
    counted = [int(match[1]) for match in items] == list(range(1, len(items) + 1))
    return _INLINE.sub(" ", line) if counted and len(items) > 1 else line
