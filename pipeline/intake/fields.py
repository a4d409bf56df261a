"""Which fields of a row mean something: every one is used, known to mean nothing, or refused.

A field that changes what a row means is never dropped in silence. What is empty (null, "", [], {})
says nothing, whatever it is called. Names are compared without case, blanks, `_` and `-`.
Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.common.errors import BadInput

MEANS_NOTHING = {  # no server ever puts these into a prompt
    "names and numbers of a row or turn": (
        *("id", "uuid", "uid", "guid", "index", "idx", "row_id", "message_id", "parent_id"),
        *("conversation_id", "conv_id", "chat_id", "session_id", "thread_id", "ticket_id"),
        *("prompt_id", "dialogue_id", "dialog_id", "user_id", "hash", "object", "type"),
    ),
    "who speaks; the role says what counts": ("name", "user", "author", "sender"),
    "when": (
        *("timestamp", "time", "date", "datetime", "created", "created_at", "updated"),
        *("updated_at", "create_time", "update_time"),
    ),
    "where it comes from": (
        *("source", "origin", "dataset", "url", "file", "filename", "line", "license", "version"),
        *("model", "model_name", "generator", "metadata", "meta", "store"),
    ),
    "what it is about": (
        *("title", "tag", "tags", "topic", "category", "categories", "subject", "domain", "task"),
        *("language", "lang", "locale", "note", "notes", "comment", "comments"),
    ),
    "counts and how an answer ended": (
        *("n_turns", "num_turns", "n_tokens", "num_tokens", "token_count", "usage"),
        *("finish_reason", "stop_reason", "status"),
    ),
    "how tools may be called; tools themselves are refused": ("parallel_tool_calls", "tool_choice"),
}
LEARNED = ("weight", "train")
"""On an assistant turn: 0 or false makes it context that is not learned."""

_TOOLS = (
    "tools are not supported yet",
    "Leave such rows out, or write the call as text if users are to read it.",
)
_PICTURES = (
    "only text is learned",
    "Leave such rows out, or say in words what is to be seen or heard.",
)
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""On an assistant turn: what it thought before it answered."""
_THINKING = (
    "thoughts are learned as text, of an assistant's turn alone",
    f'Write them there as "{THOUGHTS[0]}", or remove them to learn the answer without.',
)
_PAIRS = (
    "pairs of a better and a worse answer are not learned yet",
    "Keep the better one as the assistant turn.",
)
_PARTS = (
    "no part of a turn can be left unlearned",
    'Remove it, or mark the whole turn: "weight": 0.',
)
_VERDICT = (
    "how good an answer is decides nothing here",
    'Leave bad rows out, or mark their turns "weight": 0; then remove the field.',
)
_SPLIT = (
    "rows are split by what they ask, not by a field",
    "Leave out the rows that are not for training, then remove the field.",
)
REFUSED = {
    **dict.fromkeys(("tools", "tool_calls", "tool_call", "tool_call_id", "functions"), _TOOLS),
    **dict.fromkeys(("function_call", "tool_results", "documents"), _TOOLS),
    **dict.fromkeys(("image", "images", "image_url", "audio", "audios", "video"), _PICTURES),
    **dict.fromkeys(("videos", "files", "attachments", "pixel_values"), _PICTURES),
    **dict.fromkeys(("reasoning_content", "reasoning", "reasoning_details"), _THINKING),
    **dict.fromkeys(("thinking", "thoughts", "chain_of_thought"), _THINKING),
    **dict.fromkeys(("chosen", "rejected", "rejected_response", "chosen_response"), _PAIRS),
    **dict.fromkeys(("preferred_output", "non_preferred_output"), _PAIRS),
    **dict.fromkeys(("train_detail", "training_detail"), _PARTS),
    **dict.fromkeys(("label", "rating", "score", "reward", "quality", "kto_tag"), _VERDICT),
    **dict.fromkeys(("split", "subset"), _SPLIT),
    "system": (
        "a system message is a turn of its own",
        'Write it as the first turn: {"role": "system", "content": "…"}.',
    ),
    "prefix": (
        "an answer is learned from its beginning",
        "Remove it, and write the whole answer.",
    ),
    "refusal": (
        "a refusal beside the text is not learned",
        'Write it under "content" if it is the answer, or leave the row out.',
    ),
}


def plain(key: str) -> str:
    """A field's name as it is compared."""
    return re.sub(r"[\s_-]", "", key.lower())


_NOTHING = frozenset(plain(key) for keys in MEANS_NOTHING.values() for key in keys)
_KNOWN = {plain(key): why for key, why in REFUSED.items()}


def empty(value: Any) -> bool:
    """True where a field says nothing, whatever its name."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def refused(value: Mapping[str, Any], used: tuple[str, ...], where: str) -> Iterator[BadInput]:
    """A fault for each field that is neither used nor known to mean nothing.

    Args:
        used: names that the caller reads, spelled exactly so.
        where: file, line and turn.
    """
    for key, content in value.items():
        if key in used or empty(content) or plain(key) in _NOTHING:
            continue
        if plain(key) in _KNOWN:
            why, step = _KNOWN[plain(key)]
            yield BadInput(f'{where} has "{key}": {why}', step)
        elif plain(key) in map(plain, used):
            yield BadInput(f'{where} has "{key}"', f"Write it as {_listed(used)}.")
        else:
            yield BadInput(
                f'{where} has the unknown field "{key[:60]}"',
                "Remove it if it means nothing for the answer; put what it says into the text"
                " if it does.",
            )


def left_over(value: Mapping[str, Any], used: tuple[str, ...]) -> dict[str, Any]:
    """What else a checked row or turn says: fields that mean nothing for training."""
    if len(value) == 1:
        return {}
    return {key: said for key, said in value.items() if key not in used and not empty(said)}


def learned(turn: Mapping[str, Any], role: str, where: str) -> bool | None:
    """What `weight` or `train` says of a turn; None where nothing is said.

    Raises:
        BadInput: another value than 0 and 1, false and true; the two against each other; a turn
            of the user or the system that is to be learned.
    """
    said: dict[str, bool] = {}
    for key in LEARNED:
        value = turn.get(key)
        if empty(value):
            continue
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise BadInput(
                f'{where} has "{key}": {value!r}'[:200],
                "It is 1 (learned) or 0 (context only): nothing between."
                if key == "weight"
                else "It is true (learned) or false (context only).",
            )
        said[key] = bool(value)
    if len(set(said.values())) == 2:
        raise BadInput(f'{where}: "weight" and "train" say the opposite', "Keep one of them.")
    if role != "assistant" and any(said.values()):
        raise BadInput(
            f'{where} has "{next(iter(said))}", but what the {role} says is never learned',
            "Remove it: only assistant turns are learned.",
        )
    return next(iter(said.values()), None)


def _listed(used: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in used)
