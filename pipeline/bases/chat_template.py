"""Conversations as a base's chat template writes them."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.common.errors import BadInput
from pipeline.common.values import Conversation
from pipeline.made.artifacts import Base
from pipeline.tools.jinja import Beginnings, Texts, render_text, render_texts


def render(base: Base, messages: Conversation, *, generate: bool) -> str:
    """The prompt text as Ollama gives it: without the BOS that the tokenizer adds as an id."""
    text = render_text(
        base.template, messages, generate=generate, bos=base.bos_text, eos=base.eos_text
    )
    return _without_bos(base, text)


def render_all(base: Base, template: str, asked: Sequence[Beginnings]) -> list[Texts]:
    """As `render`, of beginnings of many conversations at once.

    Args:
        template: the base's; reading it for each batch takes time.
    """
    found = render_texts(template, asked, bos=base.bos_text, eos=base.eos_text)
    if base.bos is None or not base.bos_text:
        return found
    return [
        [text if isinstance(text, BadInput) else _without_bos(base, text) for text in texts]
        for texts in found
    ]


def _without_bos(base: Base, text: str) -> str:
    return text.removeprefix(base.bos_text) if base.bos is not None and base.bos_text else text


def trained_messages(messages: Conversation, system: str) -> Conversation:
    """The conversation with the Modelfile's SYSTEM in front, unless it has one of its own."""
    if not system or (messages and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": system}, *messages]
