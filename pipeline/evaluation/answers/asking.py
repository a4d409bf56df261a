"""A model asked through Ollama as a user asks it, one turn after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.common.errors import Missing
from pipeline.common.progress import Progress
from pipeline.common.thoughts import parted
from pipeline.common.values import Conversation, digest_of
from pipeline.evaluation.answers.answer import Answer
from pipeline.evaluation.answers.kept import Given, Kept, file
from pipeline.evaluation.answers.turns import Turn, turns
from pipeline.made.artifacts import Specialist
from pipeline.tools.ollama import Ollama

SEED = 1
PATIENCE = 4  # times the longest trained answer: one that is not over by then will not end
Report = Callable[[Progress], None]


def most(made: Specialist) -> int:
    """Tokens that an answer may have: what is served, and not more than `PATIENCE` allows."""
    patience = PATIENCE * made.data.longest_answer
    served = int(str(made.parameters.get("num_predict", -1)))
    return min(served, patience) if served > 0 else patience


def ask(
    ollama: Ollama,
    tag: str,
    name: str,
    rows: Iterable[Mapping[str, Any]],
    system: str,
    parameters: Mapping[str, Any],
    folder: Path,
    report: Report = lambda progress: None,
    *,
    limit: int,
    said: bool = False,
) -> list[Answer]:
    """Every taught turn of every row, behind the row's own history, with a fixed seed.

    What was answered before, to the same by the same model, is not asked again.

    Args:
        tag: of the model in Ollama; `name` is what people call it.
        rows: of a `Dataset`.
        system, parameters: the specialist's.
        folder: where its answers are kept.
        limit: tokens of an answer, at most.
        said: SYSTEM and PARAMETERs go with each question, for a model that is registered without.

    Raises:
        Missing: Ollama has no such model.
        ToolFailed, ProofFailed: it does not answer.
    """
    if (manifest := ollama.digest(tag)) is None:
        raise Missing(f"Ollama has no {tag}", "Make it again, or: specialist list")
    options = {**(parameters if said else {}), "seed": SEED, "num_predict": limit}
    fixed = {
        "manifest": manifest,
        "system": system,
        "parameters": dict(parameters),
        "options": options,
        "ollama": ollama.version(),
        "kind": "chat",
    }
    kept = Kept(file(folder, manifest))
    asked = list(turns(rows, system))
    told = [_told(turn, system) if said else turn.messages for turn in asked]
    keys = [digest_of({**fixed, "messages": messages}) for messages in told]
    lacking = {key: messages for key, messages in zip(keys, told, strict=True) if not kept.get(key)}
    try:
        for done, (key, messages) in enumerate(lacking.items()):
            report(Progress(done, len(lacking), f"{name} answers"))
            reply = ollama.answer(tag, messages, options)
            kept.add(key, Given(parted(reply.text)[1], reply.reason, reply.answer_tokens))
    finally:
        if lacking:
            ollama.unload(tag)
    if lacking:
        report(Progress(len(lacking), len(lacking), f"{name} answers"))
    return [_answer(turn, name, kept.get(key)) for turn, key in zip(asked, keys, strict=True)]


def _told(turn: Turn, system: str) -> Conversation:
    """With the SYSTEM in front, as Ollama would put it there."""
    if not system or turn.messages[0]["role"] == "system":
        return turn.messages
    return [{"role": "system", "content": system}, *turn.messages]


def _answer(turn: Turn, name: str, given: Given | None) -> Answer:
    assert given  # it was asked
    return Answer(
        row=turn.row,
        turn=turn.turn,
        question=turn.question,
        history=turn.history,
        reference=turn.reference,
        model=name,
        text=given.text,
        reason=given.reason,
        tokens=given.tokens,
    )
