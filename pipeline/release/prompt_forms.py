"""Built-in conversations for the proof: the forms in which people write, whatever the data.

Each ends with a user's turn. What a conversation says does not matter; that Ollama makes the
trained prompt of it does.
"""

from __future__ import annotations

from pipeline.common.values import Conversation

_TURNS: Conversation = [
    {"role": "user", "content": "Good morning!"},
    {"role": "assistant", "content": "Good morning. What can I do for you?"},
    {"role": "user", "content": "Two things."},
    {"role": "assistant", "content": "Go on."},
    {"role": "user", "content": "First: how long does it last?"},
]

_TEXTS = {
    "one question": "What is this good for?",
    "quotes and braces": "She said \"it's\" 'fine': {{ user }} {% if x %} \\n \\ `c` <b>&amp;</b>",
    "emoji and scripts": "🦊🔥 👩\u200d🔧 naïve Ωμέγα 東京 עברית हिन्दी €½",
    "line ends of Windows": "First line\r\nSecond line\r\n\tthird, with a tab\r\n",
    "trailing blanks": "Is there more?   \n\n  ",
    "leading blanks": "\n   Is there more?",
    "a list": "Compare:\n\n1. wood\n2. steel\n\n| a | b |\n|---|---|\n| 1.50 | -20 % |",
}


def forms(system: str) -> dict[str, Conversation]:
    """The conversations by name.

    Args:
        system: the specialist's SYSTEM. Most forms leave it out, so that Ollama must add it.
    """
    other = f"You are someone else, and not this: {system}"
    asked = {name: _user(text) for name, text in _TEXTS.items()}
    return {
        **asked,
        "several turns": _TURNS,
        "another system": [{"role": "system", "content": other}, *asked["one question"]],
        "another system, several turns": [{"role": "system", "content": other}, *_TURNS],
    }


def _user(text: str) -> Conversation:
    return [{"role": "user", "content": text}]
