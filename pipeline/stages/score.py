"""score: how likely a model finds the answers of held-out rows, each token behind what precedes it.

A specialist and its base are asked for the same tokens: those of the test part, or the same answers
behind some examples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.common.progress import Progress
from pipeline.common.values import digest_of
from pipeline.made.artifacts import Base, Dataset, Scored, Scores
from pipeline.made.stage import Stage, Where, like_before
from pipeline.stages.preparing.segmenter import UNTRAINED
from pipeline.stages.preparing.tokens import Tokens
from pipeline.stages.scoring import examples
from pipeline.stages.scoring.opening import opened_to_ask
from pipeline.stages.settings import Score
from pipeline.tools import llamacpp
from pipeline.tools.teacher import Teacher

STAGE = Stage(
    "score",
    version=1,
    settings=Score,
    inputs={"base": Base, "data": Dataset, "model": Scored},
    makes=Scores,
    expected=like_before(5),
    pinned=(llamacpp.REVISION,),
)
ROW = 16  # hex digits by which a row is known
Asked = tuple[list[int], list[bool], set[int]]
"""Token ids, which of them are answers, and which of those end a turn."""


def run(
    out: Path, settings: Score, base: Base, data: Dataset, model: Scored, *, where: Where
) -> Scores:
    """Score every row of the test part.

    Raises:
        BadInput: no example fits into the room for them, or no row behind them into the context.
        ToolFailed: llama.cpp cannot open or evaluate the model.
    """
    rows = list(data.each("test"))
    shown, asked = _asked(settings, base, data, rows)
    longest = max((len(ids) for several in asked for ids, _, _ in several), default=1)
    if longest > base.context:
        raise BadInput(f"a row behind examples has {longest} tokens, the base reads {base.context}")
    with (
        opened_to_ask(model, out / "scratch", longest, where.threads) as (_, reader),
        (out / "rows.jsonl").open("w", encoding="utf-8") as file,
    ):
        for done, (row, several) in enumerate(zip(rows, asked, strict=True), start=1):
            file.write(json.dumps({"row": named(row), **_sums(reader, several)}) + "\n")
            where.report(Progress(done, len(rows)))
    return Scores.at(out, examples=shown)


def named(row: Mapping[str, Any]) -> str:
    """A row's name in `Scores`: rows that are equal have the same."""
    return digest_of(row["messages"])[:ROW]


def _asked(
    settings: Score, base: Base, data: Dataset, rows: list[dict[str, Any]]
) -> tuple[int, list[list[Asked]]]:
    """How many examples are shown, and what each row asks."""
    if not settings.examples:
        return 0, [
            [_parted(s["ids"], [x != UNTRAINED for x in s["labels"]]) for s in row["sequences"]]
            for row in rows
        ]
    with Tokens(base, by_pieces=False) as tokens:
        shown = examples.chosen(base, data, settings.examples, settings.room, tokens)
        if not shown:
            raise BadInput(f"no example fits into {settings.room} tokens")
        behind = [examples.behind(base, row, shown, settings.system, tokens) for row in rows]
        tokens.settle()
    return len(shown) // 2, [
        [_parted(one.ids, _within(len(one.ids), one.answers)) for one in several]
        for several in behind
    ]


def _within(length: int, stretches: list[tuple[int, int]]) -> list[bool]:
    return [any(start <= i < end for start, end in stretches) for i in range(length)]


def _parted(ids: list[int], wanted: list[bool]) -> Asked:
    last = {i for i, (now, after) in enumerate(pairwise([*wanted, False])) if now and not after}
    return ids, wanted, last


def _sums(reader: Teacher, several: list[Asked]) -> dict[str, float | int]:
    found: dict[str, float | int] = {"body": 0.0, "words": 0, "end": 0.0, "ends": 0}
    for ids, wanted, last in several:
        places = [i for i, want in enumerate(wanted) if want]
        for i, nats in zip(places, reader.surprisals(ids, wanted), strict=True):
            sums, count = ("end", "ends") if i in last else ("body", "words")
            found[sums] += nats
            found[count] += 1
    return found
