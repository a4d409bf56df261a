"""Markers of chat templates that a text must not spell, of whatever family they are.

A model that learns one from its answers shows it to every user, or ends in the middle of a
sentence where the marker is the base's own. Standard library only: the file is read before
anything is installed.
"""

from __future__ import annotations

import re

_OF = "turn|sentence|document|utterance|text|message|msg|role|image|file"
_HALF = "turn|channel|tool|tool_call|tool_response"
FAMILIES = {
    # From the chat templates in llama.cpp's source (models/templates); a test compares.
    "ChatML, Llama 3 and 4, Phi, Zephyr, GLM, Cohere, Granite, gpt-oss, DeepSeek and most others": (
        r"<[|\uff5c][\w▁:-]{1,40}(?:\{\})?[|\uff5c]>"
    ),
    "Gemma, SmolVLM, ERNIE": rf"<(?:start|end|begin|beginning)_of_(?:{_OF})>|<(?:bos|eos)>",
    "Gemma 4": rf"<\|(?:{_HALF})>|<(?:{_HALF})\|>",
    "Llama 2 and Mistral": (
        r"\[/?INST\]|<</?SYS>>|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS)\]|\[TOOL_CALLS\]"
    ),
    "Seed, MiniMax, Nemotron, Laguna": (
        r"</assistant>|<seed:(?:bos|eos|pad)>|\[e~\[|\]~b\]|<SPECIAL_\d+>|<extra_id_\d+>"
    ),
}
_MARKER = re.compile("|".join(FAMILIES.values()))
_STRUCK = re.compile(r"<s>.*?</s>", re.DOTALL)  # HTML's strikethrough looks like Llama 2's markers


def marker(text: str) -> str:
    """The first marker that a text spells; '' for none."""
    if found := _MARKER.search(text):
        return found.group()
    trimmed = text.strip()
    whole = _STRUCK.fullmatch(trimmed) and trimmed.count("<s>") == 1
    rest = trimmed if whole else _STRUCK.sub("", trimmed)
    if "</s>" in rest:
        return "</s>"
    return "<s>" if rest.startswith("<s>") else ""
