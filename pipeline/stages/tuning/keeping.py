"""Training that keeps what the base knew: on talk off the subject it stays near the base.

Every few steps KL(base || tuned) on plain answers to everyday questions is added to the loss of the
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
EVERY = 2  # steps
TOGETHER = 2  # talks
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
        every = range(len(self.talks))
        with torch.no_grad():
            for start in every[::TOGETHER]:
                some = every[start : start + TOGETHER]
                for number, logits in zip(some, self._logits(model, some), strict=True):
                    known = torch.log_softmax(logits, -1)
                    known.to(torch.float16).cpu().numpy().tofile(self._file(number))
                where.report(Progress(some.stop, len(self.talks), "what the base knows"))

    def loss(self, model: Any, step: int) -> Any:
        """KL(base || model) in nats per token, times the weight; None at most steps.

        A pass over few tokens costs much more a token than one over many: so some talks are taken
        together every few steps, with the weight of all these steps.
        """
        import numpy as np
        import torch

        turn, rest = divmod(step, EVERY)
        if rest:
            return None
        some = [self._at(turn * TOGETHER + i) for i in range(TOGETHER)]
        far, tokens = 0.0, 0
        for number, logits in zip(some, self._logits(model, some), strict=True):
            bits = np.fromfile(self._file(number), np.float16).reshape(logits.shape)
            before = torch.from_numpy(bits).to(logits.device).float()
            after = torch.log_softmax(logits, -1)
            far = far + (before.exp() * (before - after)).sum()
            tokens += len(logits)
        return EVERY * self.weight * far / tokens

    def _logits(self, model: Any, some: Sequence[int]) -> list[Any]:
        """Float32 logits that foretell each token of the answers, (tokens, vocabulary) each."""
        import torch

        rows = [self.talks[number] for number in some]
        longest = max(len(row.ids) for row in rows)
        padding = [[0] * (longest - len(row.ids)) for row in rows]  # behind: nothing sees it
        ids = torch.tensor([row.ids + pad for row, pad in zip(rows, padding, strict=True)])
        mask = torch.tensor(
            [[1] * len(row.ids) + pad for row, pad in zip(rows, padding, strict=True)]
        )
        found = model(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False
        ).logits
        return [found[i, row.start - 1 : len(row.ids) - 1].float() for i, row in enumerate(rows)]

    def _at(self, place: int) -> int:
        """Which talk has a place: each comes once before any again, in another order each time."""
        import random

        turn, place = divmod(place, len(self.talks))
        order = list(range(len(self.talks)))
        random.Random(turn).shuffle(order)
        return order[place]

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.float16"
