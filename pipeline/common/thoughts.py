"""Thoughts of an answer, as a row holds them: `<think>…</think>` in front of its words.

One form, whatever field or blanks the user's file had, so that equal rows are equal. Standard
library only: the file is read before anything is installed.
"""

from __future__ import annotations

import re

from pipeline.common.values import Conversation

BEGIN, END = "<think>", "</think>"
_THOUGHTS = re.compile(rf"\s*{BEGIN}(.*?){END}\s*", re.DOTALL)


def joined(thoughts: str, words: str) -> str:
    """An answer with its thoughts in front."""
    return f"{BEGIN}\n{thoughts.strip()}\n{END}\n\n{words}"


def parted(text: str) -> tuple[str, str]:
    """An answer's thoughts and its words; ('', text) where it has none."""
    found = _THOUGHTS.match(text)
    return (found[1].strip(), text[found.end() :]) if found else ("", text)


def spoken(messages: Conversation) -> Conversation:
    """A conversation as people see it, and send it back: without thoughts."""
    return [
        {"role": turn["role"], "content": parted(turn["content"])[1]}
        if turn["role"] == "assistant"
        else turn
        for turn in messages
    ]


def behind(prompt: str, thoughts: str, words: str) -> str:
    """What a model writes behind a prompt: one that has begun thoughts only needs their end."""
    opened = prompt.rstrip().endswith(BEGIN)
    if not thoughts and not opened:
        return words
    whole = joined(thoughts, words)
    if not opened:
        return whole
    begun = BEGIN + prompt[len(prompt.rstrip()) :]
    return whole.removeprefix(begun if whole.startswith(begun) else BEGIN)
