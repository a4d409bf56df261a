"""The base's control tokens that a text may not spell, and those that it may.

A server reads a prompt with control tokens on. Those that the chat template writes end turns and
answers: a text that spells one would be cut there. Others mean nothing in a conversation
(`<filename>`, `<repo_name>` of a code model): in a prompt they are read as one token, in training
and in serving alike; in an answer they are learned as the letters that users are to see, because a
server shows no control token.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pipeline.bases.chat_template import render
from pipeline.common.values import Conversation
from pipeline.made.artifacts import Base

_TALK: Conversation = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "u"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "u"},
]


@lru_cache(maxsize=4)
def structural(base: Base) -> tuple[str, ...]:
    """Spellings of the control tokens that structure a conversation: a text never spells them."""
    written = base.template + render(base, _TALK, generate=True)
    own = {base.bos_text, base.eos_text, base.end_of_turn_text}
    return tuple(token for token in base.control if token in own or token in written)


def spelled(base: Base, text: str) -> list[str]:
    """Control tokens that a text spells, each once, in their order."""
    return list(dict.fromkeys(pattern(base.control).findall(text)))


def forbidden(base: Base, text: str) -> list[str]:
    """Control tokens that a text spells and may not."""
    if not pattern(base.control).search(text):
        return []
    return [token for token in spelled(base, text) if token in structural(base)]


@lru_cache(maxsize=4)
def pattern(spellings: tuple[str, ...]) -> re.Pattern[str]:
    """Finds any control token's spelling, as its one group; nothing where there are none."""
    longest_first = sorted(filter(None, spellings), key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
