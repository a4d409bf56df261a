"""The held-out rows of a version: where each stands, what is right, what each model makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from pipeline.common.values import digest_of
from pipeline.evaluation.page.report import Row
from pipeline.evaluation.rivals import Evaluation
from pipeline.made.artifacts import Specialist
from pipeline.made.conversations import Conversations, digest_of_row
from pipeline.stages.score import ROW

UNKNOWN = "a row whose line is not known"


class Answered(Protocol):
    """An answer of a model to a turn of a held-out row."""

    @property
    def row(self) -> str:
        """As `score` names it: the beginning of the digest of its messages."""

    @property
    def turn(self) -> int: ...
    @property
    def question(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def text(self) -> str: ...


def held_out(
    made: Specialist,
    found: Evaluation,
    answers: Iterable[Answered] = (),
    remarks: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[Row, ...]:
    """Rows of the test part, the worst against the base first.

    Args:
        answers: what models said; a row that was asked for several turns is shown for each.
        remarks: by the row's name (`Answered.row`).
    """
    lines = list(made.data.each("test"))
    digests = [digest_of_row(line) for line in lines]
    known = made.rows if isinstance(made.rows, Conversations) else None
    places = known.places(digests) if known else {}
    rows = {}
    for digest, line in zip(digests, lines, strict=True):
        key = digest_of(line["messages"])[:ROW]
        told = (remarks or {}).get(key, ())
        rows[key] = _row(line, places.get(digest, UNKNOWN), _losses(key, found), told, made.system)
    base = next((one.name for one in found.rivals if one.kind == "base"), "")
    every = _with_answers(rows, list(answers))
    return worst_first(every, found.specialist.name, base)


def worst_first(rows: Iterable[Row], specialist: str, base: str) -> tuple[Row, ...]:
    """By what the specialist loses more than the base; by its loss where the base has none."""
    judged = []
    for row in rows:
        own, other = row.losses.get(specialist), row.losses.get(base)
        more = None if own is None or other is None else own - other
        judged.append((more if more is not None else own or 0.0, replace(row, more=more)))
    return tuple(row for _, row in sorted(judged, key=lambda one: -one[0]))


def _losses(key: str, found: Evaluation) -> dict[str, float]:
    every = (found.specialist, *found.rivals)
    return {one.name: one.rows[key] for one in every if key in one.rows}


def _row(
    line: Mapping[str, Any],
    place: str,
    losses: Mapping[str, float],
    remarks: tuple[str, ...],
    system: str,
) -> Row:
    """Up to its last learned answer, without the SYSTEM that all of them have."""
    turns = line["messages"]
    unlearned = line.get("context", ())
    learned = [
        i for i, turn in enumerate(turns) if turn["role"] == "assistant" and i not in unlearned
    ]
    last = learned[-1]
    asked = max((i for i in range(last) if turns[i]["role"] == "user"), default=0)
    first = 1 if turns[0] == {"role": "system", "content": system} else 0
    if len(learned) > 1:
        remarks = (*remarks, f"the losses are of {len(learned)} answers together")
    return Row(
        place=place,
        question=turns[asked]["content"],
        reference=turns[last]["content"],
        losses=losses,
        remarks=remarks,
        before=tuple((turn["role"], turn["content"]) for turn in turns[first:asked]),
    )


def _with_answers(rows: Mapping[str, Row], answers: list[Answered]) -> list[Row]:
    """Each row, once for every turn that was asked; one that was not asked stays as it is."""
    asked: dict[tuple[str, int], Row] = {}
    for answer in answers:
        if (row := rows.get(answer.row)) is None:
            continue
        at = (answer.row, answer.turn)
        before = () if at not in asked and answer.question != row.question else row.before
        known = asked.get(at) or replace(
            row, question=answer.question, reference=answer.reference, before=before
        )
        asked[at] = replace(known, answers={**known.answers, answer.model: answer.text})
    named = {key for key, _ in asked}
    return [*asked.values(), *(row for key, row in rows.items() if key not in named)]
