"""Training that keeps what the base knew: on talk off the subject it stays near the base.

Each step adds KL(base || tuned) on a plain answer to an everyday question, beside the loss of the
user's rows. What the base predicts there is computed once, before the first step, when the fresh
adapter changes nothing. The texts are ours (general_talk.tsv): it is the base's distribution at
each token that is kept, whoever wrote the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bases.chat_template import render, trained_messages
from pipeline.common.progress import Progress
from pipeline.common.values import Conversation
from pipeline.made.artifacts import Base
from pipeline.made.stage import Where

FILE = Path(__file__).parent / "general_talk.tsv"
FOLDER = "base-predictions"  # below `out`, while it trains


@dataclass(frozen=True)
class Talk:
    """A prompt with its answer as token ids."""

    ids: list[int]
    start: int
    """Of the answer, the end of the turn included."""


def talks(base: Base, system: str) -> list[Talk]:
    """All of the file, three of four with the served SYSTEM.

    Raises:
        BadInput: the template refuses a plain question.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base.path / "tokenizer.json"))
    front = [] if base.bos is None else [base.bos]
    found = []
    for i, (prompt, answer) in enumerate(pairs()):
        asked: Conversation = [{"role": "user", "content": prompt}]
        text = render(base, trained_messages(asked, system if i % 4 else ""), generate=True)
        before, after = (
            tokenizer.encode(words, add_special_tokens=False).ids for words in (text, answer)
        )
        found.append(Talk([*front, *before, *after, base.end_of_turn], len(front) + len(before)))
    return found


def pairs() -> list[tuple[str, str]]:
    """Prompts and answers, in the file's order."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    found = (line.split("\t") for line in lines if not line.startswith("#"))
    return [(prompt, answer.replace("\\n", "\n")) for prompt, answer in found]


class Keeper:
    """What the base predicts of the talks, and how far a model is from it."""

    def __init__(self, talks: Sequence[Talk], weight: float, folder: Path) -> None:
        self.talks, self.weight, self._folder = talks, weight, folder

    def remember(self, model: Any, where: Where) -> None:
        """Ask the model, which is the base as long as its adapter is fresh."""
        import torch

        self._folder.mkdir(exist_ok=True)
        with torch.no_grad():
            for number in range(len(self.talks)):
                known = torch.log_softmax(self._logits(model, number), -1)
                known.to(torch.float16).cpu().numpy().tofile(self._file(number))
                where.report(Progress(number + 1, len(self.talks), "what the base knows"))

    def loss(self, model: Any, step: int) -> Any:
        """KL(base || model) in nats per token on the talk of a step, times the weight."""
        import numpy as np
        import torch

        number = self._at(step)
        logits = self._logits(model, number)
        bits = np.fromfile(self._file(number), np.float16).reshape(logits.shape)
        before = torch.from_numpy(bits).to(logits.device).float()
        after = torch.log_softmax(logits, -1)
        return self.weight * (before.exp() * (before - after)).sum(-1).mean()

    def _logits(self, model: Any, number: int) -> Any:
        """Float32 logits that foretell each token of an answer, shape (tokens, vocabulary)."""
        import torch

        talk = self.talks[number]
        ids = torch.tensor([talk.ids], device=model.device)
        found = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        return found[0, talk.start - 1 : -1].float()

    def _at(self, step: int) -> int:
        """Which talk a step has: each once before any again, in another order each time."""
        import random

        turn, place = divmod(step, len(self.talks))
        order = list(range(len(self.talks)))
        random.Random(turn).shuffle(order)
        return order[place]

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.float16"
