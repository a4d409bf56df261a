"""Every choice that decides what is made: one frozen value a stage, part of its key.

`settings` resolves what the user left open ("auto") before anything is hashed; it is a pure
function of the spec, of the data file's statistics and of cheap facts of the base. Why the
formulas are as they are: DECISIONS.md, "automatic settings".
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.bases.reference import Reference
from pipeline.bases.remarks import is_quantized
from pipeline.common.errors import BadInput
from pipeline.made.conversations import Statistics
from pipeline.spec.spec import Spec
from pipeline.stages.preparing.sizes import trained

CHARACTERS_PER_TOKEN = 4  # of English; only sizes and times are estimated with it
STEP_TOKENS = 8192  # of a pass through the model: a small one then stays within some gigabytes
FEW = 250  # rows; below, smaller batches make more steps of them
BILLION = 1_000_000_000


class Settings(BaseModel):
    """Plain values, frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Intake(Settings):
    """Nothing can be chosen yet of how a file is taken in."""


class Fetch(Settings):
    """A base is what it is; only what of it is served can be chosen."""

    thinking: Literal["", "off", "on"] = ""
    """on: answers begin with thoughts, as rows have them; else at once. off is said where the chat
    template is told so."""
    template: str = ""
    """One of ours (stages/fetching/shipped.py), for a base without; '' for none."""


class Prepare(Settings):
    """How conversations become token ids."""

    system: str
    """Goes to rows without a system turn; '' for none."""
    skip_long: bool
    """Leave out rows longer than the context instead of refusing them."""
    not_tested: tuple[str, ...] = ()
    """Rows that would be tested, had an earlier version not trained them (12 hex digits each)."""


class Tune(Settings):
    """How the adapter is trained."""

    epochs: int
    """At most so many; with a validation part, training stops when its loss rises."""
    learning_rate: float
    """Peak, after the warm-up; falls to a tenth of it by a cosine."""
    rank: int
    """Of the two LoRA factors."""
    alpha: int
    """The update is scaled by alpha / rank."""
    batch: int
    """Sequences per step."""
    load: Literal["16-bit", "4-bit"]
    """How the frozen weights are held; 4-bit where 16 bit does not fit the GPU."""
    seed: int
    keep: float = 0.0
    """Weight of the divergence from the base on talk off the subject; 0: it is not looked at."""
    system: str = ""
    """As it is served with such talk; '' for none, and where nothing is kept."""


class Pack(Settings):
    """How the merged model is stored."""

    quantization: str
    """llama.cpp's name of the type, or several with commas: the first one is served."""

    @property
    def types(self) -> list[str]:
        """The types, each once."""
        return list(dict.fromkeys(self.quantization.split(",")))


class Chosen(Settings):
    """All settings of one run."""

    fetch: Fetch
    prepare: Prepare
    tune: Tune
    pack: Pack


def settings(
    spec: Spec, statistics: Statistics, reference: Reference, gpu_bytes: int | None = None
) -> Chosen:
    """Resolve every `auto`.

    Args:
        statistics: of the whole data file.
        gpu_bytes: total memory of the GPU, None on a CPU.
    """
    tune = spec.tune
    batch = tune.batch or _batch(statistics)
    rank = tune.rank or 16
    return Chosen(
        fetch=Fetch(thinking=_thinking(statistics, reference), template=spec.fetch.template or ""),
        prepare=Prepare(
            system=spec.system if statistics.without_system else "", skip_long=spec.data.skip_long
        ),
        tune=Tune(
            epochs=tune.epochs or _epochs(statistics.rows, batch),
            learning_rate=tune.learning_rate or _learning_rate(reference.parameters, batch),
            rank=rank,
            alpha=tune.alpha or rank,
            batch=batch,
            load=_load(tune.load, reference.parameters, gpu_bytes),
            seed=tune.seed,
            keep=tune.keep,
            system=(spec.system or statistics.shared_system) if tune.keep else "",
        ),
        pack=Pack(quantization=quantization(spec.pack.quantization, reference)),
    )


def _thinking(statistics: Statistics, reference: Reference) -> Literal["", "off", "on"]:
    if statistics.thoughts:
        return "on"
    return "off" if reference.can_think else ""


def _batch(statistics: Statistics) -> int:
    """8 rows a step, 4 of few, and fewer where they are long: about 8,192 tokens a step.

    By the mean row, at English's four characters a token. Where a step has more, longer rows or
    another script, `tune` takes it in several passes (stages/tuning/batches.py).
    """
    tokens_a_row = max(1, statistics.characters / CHARACTERS_PER_TOKEN / statistics.rows)
    return max(1, min(4 if statistics.rows < FEW else 8, int(STEP_TOKENS / tokens_a_row)))


def _epochs(rows: int, batch: int) -> int:
    """Enough for about 50 steps, 2 to 10 passes; few rows are read more often.

    Below 80 rows there is no validation loss: training runs exactly this many epochs.
    """
    steps_a_pass = max(1, math.ceil(trained(rows) / batch))
    return min(10, max(2, round(50 / steps_a_pass)))


def _learning_rate(parameters: int, batch: int) -> float:
    """1e-3 at 135 million parameters, falling with the cube root of the size, 2e-4 at least.

    That is for batches of 4 and fewer; it grows with the batch up to twice that, at 8.
    """
    rate = max(2e-4, 1e-3 * min(1.0, 135e6 / parameters) ** (1 / 3))
    return float(f"{rate * min(2.0, max(1.0, batch / 4)):.1e}")


def _load(
    wanted: Literal["16-bit", "4-bit"] | None, parameters: int, gpu_bytes: int | None
) -> Literal["16-bit", "4-bit"]:
    """4-bit where two bytes a weight take more than 70 % of the GPU; activations need the rest.

    Raises:
        BadInput: 4-bit on the CPU.
    """
    if wanted == "4-bit" and gpu_bytes is None:
        raise BadInput(
            "tune.load = 4-bit needs a GPU: on the CPU it saves nothing", "Leave tune.load out."
        )
    if wanted:
        return wanted
    if gpu_bytes is None or parameters * 2 <= 0.7 * gpu_bytes:
        return "16-bit"
    return "4-bit"


class Bare(Settings):
    """How a base is stored to be compared with its specialist."""

    quantization: str
    """llama.cpp's name of the type."""


class Score(Settings):
    """What a model is asked how likely it finds it."""

    examples: int = 0
    """Conversations of the training part that are put in front, at most."""
    room: int = 0
    """Tokens that they may take."""
    system: str = ""
    """Of the rows without a system turn, where there are examples; else it is in them."""


class Recall(Settings):
    """How everyday questions are asked, by `recall` and `drift`."""

    system: str
    """As it is served; '' for none."""


def quantization(wanted: str, base: Reference) -> str:
    """The types that are packed, with commas.

    Small models are hurt visibly by 4 bits: Q8_0 below a billion parameters.

    Of a quantized base only the matrices that training touched are stored anew, and on a finer grid
    than they came on, or the change would round away (DECISIONS.md, "a quantized base").
    """
    if wanted != "auto":
        return ",".join(part.strip().upper() for part in wanted.split(","))
    if is_quantized(base):
        return "F16" if base.weights == "Q8_0" else "Q8_0"
    return "Q8_0" if base.parameters < BILLION else "Q4_K_M"
