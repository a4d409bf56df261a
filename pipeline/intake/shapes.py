"""Files and rows of other shapes, known so that the error can say what they are.

They are not taken yet. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.intake.fields import plain

EXAMPLE = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'


def _pair(asked: str, answer: str) -> str:
    return f"Write {asked} as the user's turn and {answer} as the assistant's: {EXAMPLE}"


_BETTER = f"Keep the better answer: {EXAMPLE}"
_ALPACA = '"instruction" and "input"'
_PAIRS = (  # names of a question and its answer
    *(("prompt", "completion"), ("prompt", "response"), ("prompt", "generation")),
    *(("question", "answer"), ("question", "response"), ("query", "answer")),
    *(("query", "response"), ("input", "output"), ("q", "a")),
)
# Name, the fields that show it, how to write it instead. The first that fits is said.
SHAPES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "ShareGPT",
        ("conversations",),
        'Write "messages" for "conversations" and each turn as {"role": …, "content": …}: human is '
        "user, gpt is assistant.",
    ),
    ("ChatGPT's export", ("mapping",), f"Write each conversation as {EXAMPLE}"),
    ("a pair of a better and a worse answer", ("chosen", "rejected"), _BETTER),
    ("a pair of a better and a worse answer", ("preferred_output",), _BETTER),
    (
        "an answer with a verdict (KTO)",
        ("prompt", "completion", "label"),
        f"Keep good answers only: {EXAMPLE}",
    ),
    ("Alpaca", ("instruction", "output"), _pair(_ALPACA, '"output"')),
    ("Alpaca", ("instruction", "response"), _pair(_ALPACA, '"response"')),
    *((f"{q} and {a}", (q, a), _pair(f'"{q}"', f'"{a}"')) for q, a in _PAIRS),
    ("pieces without a template", ("segments",), f"Write each conversation as {EXAMPLE}"),
    ("running text", ("text",), f"It asks nothing. A conversation is like: {EXAMPLE}"),
    ("a single turn", ("role", "content"), f"A line is one whole conversation: {EXAMPLE}"),
)


def known(value: Mapping[str, Any]) -> tuple[str, str] | None:
    """The name of another shape, and how to write it instead; None for one that is not known."""
    keys = {plain(key) for key in value}
    for name, fields, step in SHAPES:
        if keys.issuperset(map(plain, fields)):
            return name, step
    return None


def check_start(path: Path, line: bytes, where: str) -> None:
    """Refuse a whole file of another kind by its first line.

    Raises:
        BadInput: a JSON array, one object over many lines, a table.
    """
    text = line.decode("utf-8", errors="replace").strip()
    if text.startswith("[") and not text.startswith("[]"):
        raise BadInput(
            f"{where}: this begins a JSON array: not taken yet, one object a line is",
            f"""Rewrite it: python3 -c "import json, sys; [print(json.dumps(row)) for row in """
            f"""json.load(open(sys.argv[1], 'rb'))]" '{path}' > rows.jsonl""",
        )
    if text == "{":
        raise BadInput(
            f"{where}: broken JSON at column 2: the object goes on over several lines",
            "Write each conversation on one line (jq -c . does it).",
        )
    if not text.startswith(("{", "[")) and re.search(r"\w\W*[,;\t]\W*\w", text):
        raise BadInput(
            f"{where}: this is a line of a table (CSV): not taken yet, JSON lines are",
            f"Write each line of it as {EXAMPLE}",
        )
