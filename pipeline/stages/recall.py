"""recall: which of several answers to everyday questions a model finds likeliest.

Nothing is generated. A specialist and its base are asked the same, with the served SYSTEM: what the
base had right and the specialist has not, training made it forget.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.common.progress import Progress
from pipeline.made.artifacts import Base, Recalled, Scored
from pipeline.made.stage import Stage, Where, like_before
from pipeline.stages.preparing.tokens import Tokens
from pipeline.stages.scoring import general
from pipeline.stages.scoring.opening import opened_to_ask
from pipeline.stages.settings import Recall
from pipeline.tools import llamacpp

STAGE = Stage(
    "recall",
    version=1,
    settings=Recall,
    inputs={"base": Base, "model": Scored},
    makes=Recalled,
    expected=like_before(15),
    pinned=(llamacpp.REVISION,),
)
Asked = list[tuple[list[int], list[int]]]
"""Prompt and answer of each possible answer to one question, as token ids."""


def run(out: Path, settings: Recall, base: Base, model: Scored, *, where: Where) -> Recalled:
    """Ask every question.

    Raises:
        BadInput: the template refuses a plain question.
        ToolFailed: llama.cpp cannot open or evaluate the model.
    """
    every = general.items()
    asked = _asked(base, settings.system, every)
    longest = max(len(prompt) + len(answer) for several in asked for prompt, answer in several)
    with (
        opened_to_ask(model, out / "scratch", longest, where.threads) as (_, reader),
        (out / "items.jsonl").open("w", encoding="utf-8") as file,
    ):
        for done, (item, several) in enumerate(zip(every, asked, strict=True), start=1):
            likely = [
                -sum(reader.surprisals([*prompt, *answer], _behind(prompt, answer)))
                for prompt, answer in several
            ]
            found = {"question": item.question, "kind": item.kind, "language": item.language}
            margin = likely[0] - max(likely[1:])
            file.write(json.dumps({**found, "margin": margin}, ensure_ascii=False) + "\n")
            where.report(Progress(done, len(every)))
    return Recalled.at(out)


def _asked(base: Base, system: str, every: list[general.Item]) -> list[Asked]:
    found: list[Asked] = []
    with Tokens(base, by_pieces=False) as tokens:
        for item in every:
            prompt = general.prompt(base, system, item)
            tokens.begin(item.question)
            cut = [tokens.cut(prompt, answer) for answer in item.answers]
            front = [] if base.bos is None else [base.bos]
            found.append([([*front, *before], answer) for before, answer in cut])
        tokens.settle()
    return found


def _behind(prompt: list[int], answer: list[int]) -> list[bool]:
    return [*[False] * len(prompt), *[True] * len(answer)]
