"""Read a file of conversations, and say what is wrong with it by file and line.

One JSON object a line: {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", …}]}.
Standard library only: the set-up reads the file before anything is installed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput
from pipeline.values import Conversation, Message

ROLES = ("system", "user", "assistant")
EXAMPLE = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'


@dataclass(frozen=True)
class Row:
    """One conversation and the line it stands on (counted from 1)."""

    line: int
    messages: Conversation


def read(path: Path) -> list[Row]:
    """The conversations of a JSONL file, in its order.

    Raises:
        BadInput: the file or a line of it, and what to do.
    """
    if not path.exists():
        raise BadInput(f"{path}: no such file", "Give the file of conversations with --data FILE.")
    if path.is_dir():
        raise BadInput(f"{path} is a folder", "Give one .jsonl file with --data FILE.")
    if not path.is_file():  # it is read more than once
        raise BadInput(f"{path} is a pipe or a device, not a file", "Save the rows in a file.")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}", "Check the file's permissions.") from error
    if b"\0" in raw:
        raise BadInput(
            f"{path} is a binary file, not JSON lines", f"Every line must be like: {EXAMPLE}"
        )
    rows = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            rows.append(Row(line=number, messages=_messages(line, f"{path}:{number}")))
    if not rows:
        raise BadInput(f"{path} is empty", f"It needs one conversation a line: {EXAMPLE}")
    return rows


def _messages(line: bytes, where: str) -> Conversation:
    """The turns of one line, checked."""
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{where}: byte {error.start + 1} of the line is not UTF-8",
            "Save the file as UTF-8.",
        ) from error
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{where}: broken JSON at column {error.colno}: {error.msg}",
            f"Every line must be one whole object like: {EXAMPLE}",
        ) from error
    except (RecursionError, ValueError) as error:  # a number of thousands of digits
        raise BadInput(
            f"{where}: JSON nested too deeply, or a number too long", f"A line is like: {EXAMPLE}"
        ) from error
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        raise BadInput(f'{where}: no list under "messages"', f"A line is like: {EXAMPLE}")
    turns = [_turn(turn, f"{where}: turn {n}") for n, turn in enumerate(value["messages"], 1)]
    if any(turn["role"] == "system" for turn in turns[1:]):
        raise BadInput(f"{where}: a system turn that is not the first", "Move it to the front.")
    for before, turn, number in zip([None, *turns], turns, range(1, len(turns) + 1), strict=False):
        if turn["role"] == "assistant" and (before is None or before["role"] != "user"):
            raise BadInput(
                f"{where}: turn {number} answers no user turn, so it can never be asked for",
                "Put the user's turn in front of it, or join it with the turn before.",
            )
    if not any(turn["role"] == "assistant" for turn in turns):
        raise BadInput(
            f"{where}: no assistant turn, so there is nothing to learn from",
            "Add the answer as the last turn, or leave the line out.",
        )
    return turns


def _turn(turn: Any, where: str) -> Message:
    """One turn, checked."""
    if not isinstance(turn, dict):
        raise BadInput(f"{where} is not an object", f"A line is like: {EXAMPLE}")
    role, content = turn.get("role"), turn.get("content")
    if role not in ROLES:
        raise BadInput(f"{where} has the unknown role {role!r}", f"Roles are {', '.join(ROLES)}.")
    if not isinstance(content, str):
        raise BadInput(f'{where} has no text under "content"', "It must be one string.")
    if not content.strip():
        raise BadInput(f"{where} is empty", "Write its text, or leave the line out.")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{where} holds half of a surrogate pair ({content[error.start]!r})",
            "Repair or remove that character.",
        ) from error
    return {"role": role, "content": content}
