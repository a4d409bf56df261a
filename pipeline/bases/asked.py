"""Where an answer begins: what a template makes of a question, and of the question with its answer.

What is trained follows the served prompt, and nothing else. Most templates write an answer in a
conversation behind the very prompt that asks for it. Some write it otherwise: thoughts that the
prompt begins or leaves empty are not in the conversation (Qwen 3, R1, Gemma 4), or the answer
begins with a mark of its own behind them (Cohere). `lead` is what an answer then begins with.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from pipeline.common.values import Conversation

MARKS = {
    "<think>": "</think>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel>thought": "<channel|>",
    "[THINK]": "[/THINK]",
}
"""How thoughts begin and end: Qwen, DeepSeek and most others; Cohere; Gemma 4; Mistral."""
_PAIRS = "|".join(rf"(?:{re.escape(a)}\s*)?{re.escape(b)}|{re.escape(a)}" for a, b in MARKS.items())
_EMPTY = re.compile(rf"(?:{_PAIRS})\s*$")
QUESTION: Conversation = [{"role": "user", "content": "How tall is the tower?"}]
ANSWERED: Conversation = [*QUESTION, {"role": "assistant", "content": "Forty metres of stairs."}]
Render = Callable[[Conversation, bool], str]
"""A conversation, and whether an answer is asked for."""


@dataclass(frozen=True)
class Asked:
    """The two texts."""

    prompt: str
    whole: str

    @classmethod
    def by(cls, render: Render) -> Asked:
        """Of a template."""
        return cls(render(QUESTION, True), render(ANSWERED, False))

    @property
    def found(self) -> bool:
        """The answer is in the conversation."""
        return ANSWERED[-1]["content"] in self.whole

    @property
    def asks(self) -> str:
        """What the prompt ends with, behind the question."""
        return self.prompt.rpartition(QUESTION[-1]["content"])[2]

    @property
    def opened(self) -> str:
        """The mark of thoughts that the prompt begins and does not end; '' for none."""
        last = max(MARKS, key=self.asks.rfind)
        begun = self.asks.rfind(last)
        return last if begun >= 0 and MARKS[last] not in self.asks[begun:] else ""

    @cached_property
    def lead(self) -> str | None:
        """What an answer begins with behind the prompt, before its first word.

        None where the prompt ends otherwise than answers begin in a conversation, empty thoughts
        aside.
        """
        before = self.whole.rpartition(ANSWERED[-1]["content"])[0]
        if before.startswith(self.prompt):
            return before.removeprefix(self.prompt)
        between, asks = before.rpartition(QUESTION[-1]["content"])[2], _bare(self.prompt)
        bare = _bare(between)
        if bare and asks.endswith(bare):
            return ""
        same = (between[:n].rstrip() for n in range(len(between), 0, -1))
        found = next((text for text in same if text and asks.endswith(text)), None)
        return None if found is None else between.removeprefix(found).lstrip()

    def tail(self, end: str) -> str:
        """What stands between an answer and the token that ends it."""
        return self.whole.rpartition(ANSWERED[-1]["content"])[2].partition(end)[0]


def _bare(text: str) -> str:
    """Without empty thoughts and blanks at its end."""
    return _EMPTY.sub("", text).rstrip()
