"""Conversations as a base's chat template writes them."""

from __future__ import annotations

from pipeline.common.values import Conversation
from pipeline.made.artifacts import Base
from pipeline.tools.jinja import render_text


def render(base: Base, messages: Conversation, *, generate: bool) -> str:
    """The prompt text as Ollama gives it: without the BOS that the tokenizer adds as an id."""
    text = render_text(
        base.template, messages, generate=generate, bos=base.bos_text, eos=base.eos_text
    )
    if base.bos is not None and base.bos_text:
        text = text.removeprefix(base.bos_text)
    return text


def trained_messages(messages: Conversation, system: str) -> Conversation:
    """The conversation with the Modelfile's SYSTEM in front, unless it has one of its own."""
    if not system or (messages and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": system}, *messages]
