"""By what Ollama renders a candidate, and which prompt it makes."""

from __future__ import annotations

import re

from pipeline.common.values import Conversation
from pipeline.made.artifacts import Base
from pipeline.tools.ollama import Ollama
from pipeline.tools.wire import needed

_SAID = re.compile(r"^(RENDERER|PARSER) +(\S+) *$", re.MULTILINE)


def served_template(ollama: Ollama, name: str, base: Base) -> tuple[str, str]:
    """What Ollama should render it by, and what it says that it does."""
    shown = ollama.show(name)
    if not base.renders:
        return base.template, str(shown.get("template"))
    found = dict(_SAID.findall(needed(shown, "modelfile", str, "/api/show")))
    return _line(base.renders), _line({key.lower(): text for key, text in found.items()})


def served_prompt(
    ollama: Ollama, name: str, base: Base, messages: Conversation, think: bool | None = None
) -> str:
    """The prompt without BOS; a renderer writes it, and Ollama takes it off again."""
    text = ollama.render(name, messages, think=think)
    return text.removeprefix(base.bos_text) if base.renders else text


def _line(renders: dict[str, str]) -> str:
    return ", ".join(f"{key} {name}" for key, name in sorted(renders.items()))
