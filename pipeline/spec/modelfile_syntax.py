"""Ollama's grammar of a Modelfile's text (parser/parser.go of 0.33).

A command starts a line, its name in any case; a value is the rest of the line, or runs over lines
inside "…" or three quotes. There are no escapes: a quoted value ends with the first line that ends
with its quotes. `#` starts a comment only at the start of a line. More forgiving than Ollama in two
things: several blanks may follow PARAMETER, and no character is dropped.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline.common.errors import BadInput

QUOTES = ("", '"', '"""')


class Command(NamedTuple):
    """One command: `PARAMETER stop "END"` on line 4 is (4, "PARAMETER", "stop", "END")."""

    line: int
    word: str
    parameter: str
    """The parameter's name, '' with other commands."""
    value: str


def commands(text: str, source: str) -> Iterator[Command]:
    """The commands of a Modelfile, one after the other.

    Raises:
        BadInput: a quote is opened and never closed.
    """
    parts = re.split(r"(\r\n|\r|\n)", text)
    rows, ends = parts[::2], [*parts[1::2], ""]
    i = 0
    while i < len(rows):
        start, row = i, rows[i].lstrip(" \t")
        i += 1
        if not row or row.startswith("#"):
            continue
        word, value = _first_word(row)
        name, value = _first_word(value) if word.upper() == "PARAMETER" else ("", value)
        while (plain := _unquoted(value)) is None:
            if i == len(rows):
                where = f"{source}:{start + 1}"
                raise BadInput(
                    f"{where}: a quote is opened and never closed",
                    "Close it with the same quotes at the end of a line.",
                )
            value += ends[i - 1] + rows[i]
            i += 1
        yield Command(start + 1, word, name, plain)


def _first_word(row: str) -> tuple[str, str]:
    """The first word and what follows it."""
    found = re.match(r"([^ \t]*)[ \t]*(.*)", row, flags=re.DOTALL)
    assert found  # the pattern matches any text
    return found[1], found[2]


def _unquoted(value: str) -> str | None:
    """The value without its quotes, None while they are open (`unquote` in parser.go)."""
    value = value.strip()
    for quote in ('"""', '"'):
        if value.startswith(quote):
            closed = value.endswith(quote) and len(value) >= 2 * len(quote)
            return value[len(quote) : -len(quote)] if closed else None
    return value


def quoted(text: str) -> str:
    """The text in the plainest quotes that bring it back whole."""
    for quote in QUOTES:
        if _survives(text, quote):
            return f"{quote}{text}{quote}"
    return '"""' + text.replace('"""', "'''") + '"""'  # `lossy` says so


def _survives(text: str, quote: str) -> bool:
    try:
        found = list(commands(f"SYSTEM {quote}{text}{quote}", ""))
    except BadInput:
        return False
    return [command.value for command in found] == [text]


def lossy(text: str) -> list[str]:
    """What Ollama's text parser would lose of a SYSTEM or LICENSE; a sentence each.

    It drops every rune that Go's strconv.IsPrint calls unprintable (blanks other than the ASCII
    one, joiners, soft hyphens), and has no way to write some uses of three quotes.
    """
    gone = sorted({c for c in text if c not in " \t\r\n" and not _printable(c)})
    warnings = [
        f"U+{ord(c):04X} ({unicodedata.name(c, 'a control character')}) is dropped" for c in gone
    ]
    if not any(_survives(text, quote) for quote in QUOTES):
        warnings.append("three quotes at the end of a line cannot be written; they become '''")
    return warnings


def _printable(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMNPS"


def close(word: str, known: Iterable[str]) -> str:
    """A sentence with the known names nearest to a word, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(names)}."
