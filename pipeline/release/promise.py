"""What training and merging promise, held against what is served, in nats per trained token.

The stored file is evaluated by llama.cpp on held-out answers, the very tokens of `prepare`. Nothing
is sampled for the first two: the same file gives the same figures.

    loss     of the held-out answers, against that of base + adapter before merging and quantizing
    cost     what the PARAMETERs add to it, by the formulas of llama.cpp's samplers: a penalty for
             repeating makes the trained answers unlikely long before they look broken
    answers  as `ollama run` gets them may be less likely than trained ones only by so much
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ProofFailed
from pipeline.common.progress import Progress
from pipeline.made.artifacts import Specialist
from pipeline.made.stage import Where
from pipeline.stages.packing import tree
from pipeline.stages.packing.tree import UNTRAINED
from pipeline.tools.llamacpp import Model
from pipeline.tools.teacher import surprisal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_COST = 0.5  # repeat_penalty 1.1 costs 0.08 on the shipped data, 1.2 0.33, 1.3 0.66, 1.9 2.5
MOST_LOST = 0.5  # Q4_K_M loses 0.1 of a small model; rounding a rounded base again, 1.1
MOST_UNLIKELY = 1.5  # sampled without any truncation, answers are 0.2 above trained ones
GARBLED = 5.0  # where nearly all is known by heart, one unlikely word is no sign: noise has 10
PENALTIES = ("repeat_penalty", "presence_penalty", "frequency_penalty", "temperature")


@dataclass(frozen=True)
class Held:
    """Nats per trained token."""

    loss: float
    cost: float
    """What the PARAMETERs add."""


def hold(model: Model, made: Specialist, where: Where) -> Held:
    """Evaluate the served file on held-out answers.

    Raises:
        ProofFailed: the file has lost what was trained, or the PARAMETERs drown it.
    """
    plain, under, count, done = 0.0, 0.0, 0, 0
    held_out = tree.probes(made.data, tree.rows_of(model.tokens)).held
    total = sum(len(ids) for ids, _ in held_out)
    for ids, labels in held_out:
        where.report(Progress(done, total, "evaluating held-out answers"))
        done += len(ids)
        # nothing foretells a first token, also where a long answer was cut in front
        start = max(1, next((i for i, label in enumerate(labels) if label != UNTRAINED), len(ids)))
        for at, row in enumerate(model.each_logits(ids, start, where.threads), start):
            if labels[at] != UNTRAINED:
                plain += surprisal(row, ids[at])
                under += surprisal(penalised(row, ids[:at], made.parameters), ids[at])
                count += 1
    if not count:
        raise ProofFailed("there is no answer to hold the served file to", "Add rows.")
    held = Held(plain / count, (under - plain) / count)
    _check(held, made)
    return held


def _check(held: Held, made: Specialist) -> None:
    promised = made.packed.loss
    if promised is not None and not held.loss <= promised + MOST_LOST:
        raise ProofFailed(
            f"the {made.packed.quantization} file has lost what was trained: {held.loss:.2f} nats a"
            f" token on held-out answers, base + adapter have {promised:.2f}",
            "Take a type with more bits (--quantize Q8_0); it does not train again.",
        )
    if not held.cost <= MOST_COST:
        said = {name: made.parameters[name] for name in PENALTIES if name in made.parameters}
        named = ", ".join(f"PARAMETER {name} {value}" for name, value in said.items())
        raise ProofFailed(
            f"{named or 'the PARAMETERs'} would garble the answers: trained ones become"
            f" {held.cost:.1f} nats a token less likely (allowed: {MOST_COST})",
            "Take the line out of the Modelfile, or a milder value; it does not train again.",
        )


def look_at(made: Specialist) -> str:
    """What to do where answers are wrong only as users get them."""
    said = [f"{k} {v}" for k, v in made.parameters.items() if k != "num_ctx"]
    if not said:
        return "The Modelfile sets no PARAMETER that could do this: run again, for answers vary."
    return (
        f"Look at the PARAMETERs in the Modelfile ({', '.join(said)}); a changed one does not train"
        " again."
    )


def check_answers(
    model: Model,
    answers: Sequence[tuple[list[int], str]],
    held: Held,
    made: Specialist,
    threads: int,
) -> float:
    """How likely answers are that were asked for as `ollama run` asks, in nats per token.

    Args:
        answers: the ids of each prompt, and the text that came back.

    Raises:
        ProofFailed: far less likely than trained ones: something on the way garbles them.
    """
    total, count = 0.0, 0
    for prompt, text in answers:
        ids = _answer_ids(model, text)
        known = model.each_logits([*prompt, *ids], len(prompt), threads)
        for token, row in zip(ids, known, strict=True):
            total += surprisal(row, token)
            count += 1
    unlikely = total / max(count, 1)
    if not unlikely <= max(held.loss + MOST_UNLIKELY, GARBLED):
        worst = max((text for _, text in answers), key=len)
        raise ProofFailed(
            f"answers are garbled when asked for as `ollama run` asks: {unlikely:.1f} nats a token,"
            f" trained ones have {held.loss:.1f}: {worst[:80]!r}",
            look_at(made),
        )
    return unlikely


def _answer_ids(model: Model, text: str) -> list[int]:
    """An answer's ids as they follow a prompt.

    Behind a line break, which is taken off again: at the start of a text, SentencePiece
    vocabularies put a blank in front.
    """
    lead, both = (model.tokenize(words, special=False) for words in ("\n", f"\n{text}"))
    if both[: len(lead)] == lead:
        return both[len(lead) :]
    return model.tokenize(text, special=False)  # the line break has grown together with it


def penalised(
    row: NDArray[np.float64], before: Sequence[int], parameters: Mapping[str, Any]
) -> NDArray[np.float64]:
    """Logits as llama.cpp's samplers change them under PARAMETERs (src/llama-sampler.cpp).

    llama_sampler_penalties_apply over the last `repeat_last_n` tokens, prompt included; then the
    temperature where it is above 1. Below it, and by top_k, top_p and min_p, tokens are only
    left out that are unlikely anyway.
    """
    import numpy as np

    window = int(parameters.get("repeat_last_n", 64))
    repeat, present, often = (
        float(parameters.get(name, neutral))
        for name, neutral in zip(PENALTIES[:3], (1.0, 0.0, 0.0), strict=True)
    )
    recent = before if window < 0 else before[len(before) - min(window, len(before)) :]
    changed = row.copy()
    if recent and (repeat, present, often) != (1.0, 0.0, 0.0):
        counted = Counter(recent)
        tokens, times = (np.fromiter(some, np.int64) for some in (counted, counted.values()))
        found = changed[tokens]
        scaled = np.where(found <= 0, found * repeat, found / repeat)
        changed[tokens] = scaled - times * often - present
    greedy = int(parameters.get("top_k", 0)) == 1  # then temperature changes nothing
    return changed if greedy else changed / max(1.0, float(parameters.get("temperature", 1.0)))
