"""Render conversations with a frozen chat template, as Hugging Face and llama.cpp do.

The environment is the one of transformers' `apply_chat_template` (utils/chat_template_utils.py):
sandboxed, trim_blocks, lstrip_blocks, loop controls, `raise_exception`. `strftime_now` is pinned,
so that nothing in a prompt depends on the day.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline.artifacts import Base
from pipeline.errors import BadInput
from pipeline.values import Conversation

PINNED_DAY = "26 Jul 2024"  # the day that Llama 3's own template falls back to


def _raise(message: str) -> None:
    raise TemplateError(message)


def _tojson(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda _format: PINNED_DAY
    return environment.from_string(template)


def render_text(
    template: str,
    messages: Conversation,
    *,
    generate: bool,
    bos: str = "",
    eos: str = "",
    **more: object,
) -> str:
    """The prompt text of a conversation; with `generate` it ends where an answer starts.

    Args:
        more: further names that the template may read, as a server may set them.

    Raises:
        BadInput: the template refuses the conversation.
    """
    try:
        text: str = _compiled(template).render(
            messages=messages,
            add_generation_prompt=generate,
            bos_token=bos,
            eos_token=eos,
            **more,
        )
    except (TemplateError, TypeError, ValueError) as error:  # it may add a number to a text
        raise BadInput(f"the chat template refuses this conversation: {error}") from error
    return text


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
