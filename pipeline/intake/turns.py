"""One turn of a conversation: its role, its text, and nothing else that would be dropped.

Standard library only.
"""

from __future__ import annotations

from typing import Any

from pipeline.common import thoughts
from pipeline.common.errors import BadInput, BadRows, PipelineError
from pipeline.common.values import Message
from pipeline.intake.fields import LEARNED, THOUGHTS, empty, refused
from pipeline.intake.markers import marker
from pipeline.intake.shapes import EXAMPLE

USED = ("role", "content")
ROLES = ("system", "user", "assistant")
ALIASES = {"developer": "system"}
OTHER_ROLES = {
    **dict.fromkeys(("tool", "function", "ipython", "observation", "function_call"), "tool"),
    **dict.fromkeys(("human", "customer", "client"), "user"),
    **dict.fromkeys(("gpt", "bot", "ai", "model", "agent", "chatbot"), "assistant"),
}


def checked(turn: Any, where: str) -> Message:
    """One turn of a row.

    Raises:
        BadInput: what is wrong with it, all of it.
    """
    if not isinstance(turn, dict):
        raise BadInput(f"{where} is not an object", f"A line is like: {EXAMPLE}")
    if "role" not in turn and "from" in turn:
        raise BadInput(
            f'{where} has "from" (ShareGPT), and no "role"',
            'Write "role" for "from" and "content" for "value": human is user, gpt is assistant.',
        )
    role, content = ALIASES.get(str(turn.get("role")), turn.get("role")), turn.get("content")
    used = (*USED, *LEARNED, *(THOUGHTS if role == "assistant" else ()))
    faults: list[PipelineError] = [*refused(turn, used, where)]
    if role not in ROLES:
        faults.append(_unknown_role(turn.get("role"), where))
    if faults and empty(content):  # a call without a text: the call is the fault
        raise BadRows.of(faults)
    try:
        text = _text(content, where)
        if role == "assistant":
            text = _with_thoughts(turn, text, where)
        _check_text(text, where)
    except BadInput as error:
        faults += error.each()
    if faults:
        raise BadRows.of(faults)
    return {"role": str(role), "content": text}


def _unknown_role(role: Any, where: str) -> BadInput:
    close = OTHER_ROLES.get(str(role).lower(), str(role).lower())
    if close == "tool":
        return BadInput(
            f"{where} is of the role {role!r}: tools are not supported yet",
            "Leave such rows out, or write the call as text if users are to read it.",
        )
    hint = f"Did you mean {close}? " if close in ROLES else ""
    return BadInput(
        f"{where} has the unknown role {role!r}"[:200], f"{hint}Roles are {', '.join(ROLES)}."
    )


def _text(content: Any, where: str) -> str:
    """The text of a turn; a list of text parts is joined by line breaks, as llama.cpp does."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise BadInput(f'{where} has no text under "content"', "It must be one string.")
    faults: list[PipelineError] = []
    for part in content:
        if part.get("type", "text") != "text" or not isinstance(part.get("text"), str):
            faults.append(
                BadInput(
                    f"{where} has a part of the type {part.get('type')!r}: only text is learned"[
                        :200
                    ],
                    "Leave such rows out, or say in words what is to be seen or heard.",
                )
            )
        else:
            faults += refused(part, ("type", "text"), f"{where}: a part")
    if faults:
        raise BadRows.of(faults)
    return "\n".join(part["text"] for part in content)


def _with_thoughts(turn: dict[str, Any], text: str, where: str) -> str:
    """The answer in the one form that rows have, its thoughts in front."""
    fields = [turn[name] for name in THOUGHTS if not empty(turn.get(name))]
    if not all(isinstance(field, str) for field in fields):
        raise BadInput(f"{where} has thoughts that are no text", "They must be one string.")
    inside, words = thoughts.parted(text)
    several = {one.strip() for one in (*fields, inside)} - {""}
    if len(several) > 1:
        raise BadInput(f"{where} has its thoughts twice, and not the same", "Keep one of them.")
    if text.lstrip().startswith(thoughts.BEGIN) and thoughts.END not in text:
        raise BadInput(
            f"{where} begins with <think> and never ends it", "End the thoughts: </think>."
        )
    if not several:
        return words  # empty thoughts are none
    _check_text(words, where)
    return thoughts.joined(several.pop(), words)


def _check_text(text: str, where: str) -> None:
    if not text.strip():
        raise BadInput(f"{where} is empty", "Write its text, or leave the line out.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{where} holds half of a surrogate pair ({text[error.start]!r})",
            "Repair or remove that character.",
        ) from error
    if found := marker(text):
        raise BadInput(
            f"{where} spells {found}, a marker of chat templates: it would be learned as text or"
            " end a turn",
            "Remove it: the base's template writes its own. If it is meant as text, write it with a"
            " blank in it.",
        )
