"""Questions of everyday knowledge with right and wrong answers, in English and Spanish (CC0)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.bases.chat_template import render, trained_messages
from pipeline.made.artifacts import Base

FILE = Path(__file__).parent / "general.tsv"


@dataclass(frozen=True)
class Item:
    """A question and its answers."""

    kind: str
    """`fact`: one of four; `plausible`: one of two."""
    language: str
    """`en` or `es`."""
    question: str
    answers: tuple[str, ...]
    """The right one first."""


def prompt(base: Base, system: str, item: Item) -> str:
    """What a server makes of the question, with the served SYSTEM.

    Raises:
        BadInput: the template refuses a plain question.
    """
    talk = trained_messages([{"role": "user", "content": item.question}], system)
    return render(base, talk, generate=True)


def some(count: int) -> list[Item]:
    """So many of them, from all parts of the file."""
    every = items()
    return [every[i * len(every) // count] for i in range(count)]


def items() -> list[Item]:
    """All of them, in the file's order."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    found = [line.split("\t") for line in lines if not line.startswith("#")]
    return [Item(kind, lang, question, tuple(answers)) for kind, lang, question, *answers in found]
