"""drift: how a specialist goes on where its base answers an everyday question.

The base answers by itself; then each of its tokens is put to the specialist. KL(base || specialist)
is 0 where both would go on alike. The base's predictions lie on the disk meanwhile, in 16 bits: the
two models are never in memory together.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.progress import Progress
from pipeline.made.artifacts import Base, Drifted, Scored
from pipeline.made.stage import Stage, Where, like_before
from pipeline.stages.fetching import vocabulary
from pipeline.stages.preparing.tokens import Tokens
from pipeline.stages.scoring import general
from pipeline.stages.scoring.opening import opened_to_ask
from pipeline.stages.settings import Recall
from pipeline.tools import llamacpp
from pipeline.tools.teacher import Teacher

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STAGE = Stage(
    "drift",
    version=1,
    settings=Recall,
    inputs={"base": Base, "model": Scored, "other": Scored},
    makes=Drifted,
    expected=like_before(20),
    pinned=(llamacpp.REVISION,),
)
QUESTIONS = 60
LONG = 24  # tokens of an answer: what it begins with shows it


def run(
    out: Path, settings: Recall, base: Base, model: Scored, other: Scored, *, where: Where
) -> Drifted:
    """Let the base answer, and the other one judge.

    Args:
        model: the base's file.
        other: the specialist's.

    Raises:
        BadInput: the template refuses a plain question.
        ToolFailed: llama.cpp cannot open or evaluate a model.
    """
    import numpy as np

    every = general.some(QUESTIONS)
    prompts = _prompts(base, settings.system, every)
    longest = max(map(len, prompts)) + LONG + 1
    said: list[list[int]] = []
    tokenizer = vocabulary.opened(base.path)
    scratch = out / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with (
        opened_to_ask(model, scratch, longest, where.threads) as (_, reader),
        (scratch / "known").open("wb") as known,  # not mapped: a full disk would be a signal
    ):
        for prompt in prompts:
            said.append(reader.answer(prompt, LONG))
            for logs in _each(reader, prompt, said[-1]):
                known.write(logs.astype(np.float16).tobytes())
            where.report(Progress(len(said), 2 * QUESTIONS, "the base answers"))
    with (
        opened_to_ask(other, scratch, longest, where.threads) as (opened, reader),
        (scratch / "known").open("rb") as known,
        (out / "answers.jsonl").open("w", encoding="utf-8") as file,
    ):
        for done, (item, prompt, ids) in enumerate(zip(every, prompts, said, strict=True)):
            kl, same = 0.0, 0
            for logs in _each(reader, prompt, ids):
                row = np.frombuffer(known.read(2 * opened.tokens), np.float16)
                before = row.astype(np.float64)
                kl += float((np.exp(before) * (before - logs)).sum())
                same += int(before.argmax() == logs.argmax())
            answer = tokenizer.decode(ids)
            told = {"question": item.question, "answer": answer, "kl": kl, "same": same}
            file.write(json.dumps({**told, "tokens": len(ids)}, ensure_ascii=False) + "\n")
            where.report(Progress(QUESTIONS + done + 1, 2 * QUESTIONS, "the specialist judges"))
    shutil.rmtree(scratch)
    return Drifted.at(out)


def _prompts(base: Base, system: str, every: list[general.Item]) -> list[list[int]]:
    front = [] if base.bos is None else [base.bos]
    found = []
    with Tokens(base, by_pieces=False) as tokens:
        for item in every:
            tokens.begin(item.question)
            found.append([*front, *tokens.ids(general.prompt(base, system, item))])
        tokens.settle()
    return found


def _each(reader: Teacher, prompt: list[int], answer: list[int]) -> Iterator[NDArray[np.float64]]:
    """Logarithms of the probabilities that foretell each token of an answer."""
    import numpy as np

    for row in reader.logits([*prompt, *answer], [*[False] * len(prompt), *[True] * len(answer)]):
        shifted = row - row.max()
        yield shifted - np.log(np.exp(shifted).sum())
