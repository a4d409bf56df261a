"""Read a file of conversations, and say all that is wrong with it by file and line.

One JSON object a line: {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", …}]}.
Standard library only: the set-up reads the file before anything is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.common.errors import BadInput, BadRows, PipelineError
from pipeline.common.values import Conversation
from pipeline.intake.fields import LEARNED, THOUGHTS, learned, left_over, refused
from pipeline.intake.lines import lines
from pipeline.intake.shapes import EXAMPLE, check_start, known
from pipeline.intake.turns import USED, checked


@dataclass(frozen=True)
class Row:
    """One conversation and the line it stands on (counted from 1)."""

    line: int
    messages: Conversation
    context: tuple[int, ...] = ()
    """Which messages are assistant turns that are not learned: marked so, or before any user's."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else the row says, and means nothing for training."""
    turns: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """The same of its turns, where they say more."""

    @property
    def learns(self) -> bool:
        """False where every assistant turn is context."""
        return any(turn not in self.context for turn in _answers(self.messages))

    def value(self) -> Any:
        """What its digest is made of."""
        return (
            {"messages": self.messages, "context": self.context}
            if self.context
            else (self.messages)
        )


def read(path: Path, shown: str = "") -> Iterator[Row]:
    """The conversations of a JSONL file one by one, in its order.

    After the first wrong line nothing is yielded any more; the rest is checked, and all that is
    wrong is raised at the end.

    Args:
        shown: what errors call the file, by default its path.

    Raises:
        BadInput: the file, or its only wrong line, and what to do.
        BadRows: all of its wrong lines.
    """
    shown = shown or str(path)
    check_file(path)
    faults: list[PipelineError] = []
    first_line, learns = 0, False
    for number, line in lines(path):
        if not line.strip():
            continue
        where = f"{shown}:{number}"
        first = not first_line
        if first:
            first_line = number
            check_start(path, line, where)
        try:
            row = _row(number, line, where)
        except _OtherShape as error:
            if first:  # as all the others will be
                raise BadInput(error.what, error.next_step) from error
            faults.append(error)
        except BadInput as error:
            faults += error.each()
        else:
            learns = learns or row.learns
            if not faults:
                yield row
    if faults:
        raise BadRows.of(faults)
    if not first_line:
        raise BadInput(f"{shown} is empty", f"It needs one conversation a line: {EXAMPLE}")
    if not learns:
        raise BadInput(
            f"{shown}:{first_line}: no user turn comes before an assistant turn, here and in every"
            " other row, so there is nothing to learn from",
            "Add conversations in which the assistant answers a user.",
        )


def check_file(path: Path) -> None:
    """Refuse what is no file.

    Raises:
        BadInput: with what it is.
    """
    if not path.exists():
        raise BadInput(f"{path}: no such file", "Give the file of conversations with --data FILE.")
    if path.is_dir():
        raise BadInput(f"{path} is a folder", "Give one .jsonl file with --data FILE.")
    if not path.is_file():  # it is read more than once
        raise BadInput(f"{path} is a pipe or a device, not a file", "Save the rows in a file.")


class _OtherShape(BadInput):
    """A row of a format that is known and not taken."""


def _row(number: int, line: bytes, where: str) -> Row:
    """The conversation of one line, checked."""
    value = _parsed(line, where)
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        if isinstance(value, dict) and "messages" not in value and (shape := known(value)):
            raise _OtherShape(f"{where}: this is {shape[0]}: not taken yet", shape[1])
        raise BadInput(f'{where}: no list under "messages"', f"A line is like: {EXAMPLE}")
    faults: list[PipelineError] = [*refused(value, ("messages",), f"{where}: the row")]
    turns: Conversation = []
    marked: dict[int, bool] = {}
    more: dict[int, Mapping[str, Any]] = {}
    for index, turn in enumerate(value["messages"]):
        try:
            turns.append(checked(turn, f"{where}: turn {index + 1}"))
            if len(turn) > 2 and (left := left_over(turn, (*USED, *LEARNED, *THOUGHTS))):
                more[index] = left
            said = learned(turn, turns[-1]["role"], f"{where}: turn {index + 1}")
            marked |= {index: said} if said is not None else {}
        except BadInput as error:
            faults += error.each()
    if faults:
        raise BadRows.of(faults)
    _check_order(turns, where)
    context = _context(turns, marked, where)
    return Row(number, turns, context, left_over(value, ("messages",)), more)


def _parsed(line: bytes, where: str) -> Any:
    try:
        text = line.decode("utf-8").rstrip("\r\n")  # else a line that is cut off errs in the next
        return _DECODE(text)
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
    except _Twice as error:
        raise BadInput(f'{where}: "{error}" twice in one object', "Keep one of them.") from error
    except (RecursionError, ValueError) as error:  # a number of thousands of digits
        raise BadInput(
            f"{where}: JSON nested too deeply, or a number too long", f"A line is like: {EXAMPLE}"
        ) from error


class _Twice(Exception):
    """A name that an object has twice: one of the two would be dropped."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return value


_DECODE = json.JSONDecoder(object_pairs_hook=_once).decode


def _check_order(turns: Conversation, where: str) -> None:
    """Refuse system turns that are not first, and answers that can never be asked for."""
    if any(turn["role"] == "system" for turn in turns[1:]):
        raise BadInput(f"{where}: a system turn that is not the first", "Move it to the front.")
    asked = False
    for number, turn in enumerate(turns, start=1):
        if turn["role"] == "assistant" and asked and turns[number - 2]["role"] != "user":
            raise BadInput(
                f"{where}: turn {number} answers no user turn, so it can never be asked for",
                "Put the user's turn in front of it, or join it with the turn before.",
            )
        asked = asked or turn["role"] == "user"


def _context(turns: Conversation, marked: dict[int, bool], where: str) -> tuple[int, ...]:
    """The assistant turns that are not learned."""
    answers = _answers(turns)
    if not answers:
        raise BadInput(
            f"{where}: no assistant turn, so there is nothing to learn from",
            "Add the answer as the last turn, or leave the line out.",
        )
    first = next((i for i, turn in enumerate(turns) if turn["role"] == "user"), len(turns))
    for index in answers:
        if index < first and marked.get(index):
            raise BadInput(
                f"{where}: turn {index + 1} is to be learned, but no user turn comes before it, so"
                " it can never be asked for",
                "Remove its mark: as context it stays where it is.",
            )
    if all(marked.get(index) is False for index in answers):
        raise BadInput(
            f"{where}: every assistant turn is marked not to be learned, so there is nothing to"
            " learn from",
            "Leave the line out.",
        )
    return tuple(i for i in answers if i < first or marked.get(i) is False)


def _answers(turns: Conversation) -> list[int]:
    return [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
