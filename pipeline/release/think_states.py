"""That one prompt is served whatever a client says of thinking: nothing, false or true.

A server passes on what it was told, and says true by itself to a template that can think. The
frozen template takes no notice (stages/fetching/thinking.py); here it is seen.
"""

from __future__ import annotations

from pipeline.bases.chat_template import render, trained_messages
from pipeline.common.errors import ProofFailed
from pipeline.made.artifacts import Specialist
from pipeline.release.prompt_forms import forms
from pipeline.release.served_prompt import served_prompt
from pipeline.stages.fetching.thinking import TAGS
from pipeline.tools.ollama import Ollama

SAID = {None: "nothing", False: "false", True: "true"}


def check(ollama: Ollama, name: str, made: Specialist) -> None:
    """Ask in each state for the prompt, and for an answer to it.

    Raises:
        ProofFailed: one has another prompt.
        ToolFailed: one is refused.
    """
    messages = forms(made.system)["one question"]
    ours = render(made.base, trained_messages(messages, made.system), generate=True)
    counts = set()
    for think in states(made.base.template):
        theirs = served_prompt(ollama, name, made.base, messages, think)
        reply = ollama.chat(name, messages, limit=1, think=think)
        counts.add(reply.prompt_tokens)
        if theirs != ours or len(counts) > 1:
            raise ProofFailed(
                f"where a client says {SAID[think]} of thinking, Ollama makes another prompt:"
                f" …{theirs[-60:]!r}, trained was …{ours[-60:]!r}",
                "Please report this; until then, another base serves.",
            )


def states(template: str) -> tuple[bool | None, ...]:
    """What a client may say; Ollama refuses true (400) where a template knows no thoughts."""
    return (None, False, True) if all(tag in template for tag in TAGS) else (None, False)
