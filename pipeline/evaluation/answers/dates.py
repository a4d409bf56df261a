"""Dates and times of day in one form: `2026-05-03`, `--05-03` without a year, `14:30`."""

from __future__ import annotations

import re

_NAMES = """
1 jan january enero ene januar janvier
2 feb february febrero februar février
3 mar march marzo märz mars
4 apr april abril abr avril
5 may mayo mai
6 jun june junio juni juin
7 jul july julio juli juillet
8 aug august agosto ago août
9 sep sept september septiembre septembre
10 oct october octubre oktober okt octobre
11 nov november noviembre novembre
12 dec december diciembre dic dezember dez décembre
"""
_MONTHS = {
    name: int(number)
    for number, *names in (line.split() for line in _NAMES.strip().splitlines())
    for name in names
}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_ORDINAL = r"(?:st|nd|rd|th|\.|º)?"
_YEAR = r"(?:\s*,?\s+(?:de\s+|del\s+)?(?P<y>(?:19|20)\d\d))?"
_WORDS = [
    rf"\b(?P<d>\d{{1,2}}){_ORDINAL}\s+(?:de\s+|of\s+)?(?P<m>{_MONTH})\b\.?{_YEAR}",
    rf"\b(?P<m>{_MONTH})\b\.?\s+(?P<d>\d{{1,2}})(?!\d){_ORDINAL}{_YEAR}",
]
_DIGITS = [
    r"(?<!\d)(?P<y>(?:19|20)\d\d)[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?!\d)",
    r"(?<!\d)(?P<d>\d{1,2})[./-](?P<m>\d{1,2})[./-](?P<y>(?:19|20)?\d\d)(?!\d)",
]
DATES = [re.compile(pattern, re.IGNORECASE) for pattern in (*_WORDS, *_DIGITS)]
_HALF = r"(?<![\d:])(?P<h>\d{1,2})(?::(?P<min>\d\d))?\s?(?P<half>[ap])\.?m\b\.?"
_CLOCK = r"(?<![\d:])(?P<h>[01]?\d|2[0-3]):(?P<min>[0-5]\d)(?![\d:])(?P<half>)"
TIMES = [re.compile(pattern, re.IGNORECASE) for pattern in (_HALF, _CLOCK)]
_VERBS = ("may", "march")  # in small letters, in English


def date(found: re.Match[str]) -> str:
    """Of a match of DATES; '' where there is no such day.

    Where day and month may be either, the first is the day; 5/13/2026 is May the 13th.
    """
    if found["m"] in _VERBS:
        return ""
    named = found["m"].lower()
    day, month = int(found["d"]), _MONTHS.get(named) or int(named)
    if month > 12 >= day:
        day, month = month, day
    if not (1 <= day <= 31 and 1 <= month <= 12):
        return ""
    year = found["y"] or "-"
    return f"{'20' if len(year) == 2 else ''}{year}-{month:02}-{day:02}"


def time(found: re.Match[str]) -> str:
    """Of a match of TIMES; '' where there is no such hour."""
    hour, half = int(found["h"]), found["half"].lower()
    if half and not 1 <= hour <= 12:
        return ""
    hour = hour % 12 + (12 if half == "p" else 0) if half else hour
    return f"{hour:02}:{found['min'] or '00'}"
