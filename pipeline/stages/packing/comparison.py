"""Whether the merged model computes what base + adapter compute: logits in float32, side by side.

bfloat16 rounding alone is as large as the error that is looked for, so both sides are computed in
float32. No whole model is held: a module's weights are read when it is reached, and let go after
it. So memory is bounded by the largest module and the logits.

A position counts once, however many rows share the text up to it (`tree.py`). Two things are
judged. Before trained tokens, which is where users meet the model, another top token weighs by its
margin: at a tie rounding alone decides, and nobody can tell the two answers apart. And everywhere
the distributions must be the same: where answers are known by heart, a missing module shows in the
context only.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import BadInput, ToolFailed
from pipeline.stages.packing.brought import Read, brought, waiting
from pipeline.stages.packing.empty import empty
from pipeline.stages.packing.tree import Tree

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_KL = {"F16": 0.001, "F32": 0.001, "BF16": 0.02}
"""By the type that the merged weights are rounded to: bfloat16 has three bits less than float16."""
MAX_ANSWER_KL = 0.001
MAX_LOST = 0.002


@dataclass(frozen=True)
class Agreement:
    """How close two models are on the same tokens."""

    kl: float
    """Mean Kullback-Leibler divergence in nats, over all tokens."""
    tokens: int
    answer_kl: float
    """The same, over those before a trained token; so are those that follow."""
    lost: float
    """Mean probability that the merged model's top token has less than base + adapter's own."""
    same_top: float
    """Share of tokens after which both hold the same token for the likeliest: told, not judged."""
    answers: int
    loss: float | None = None
    """Of base + adapter, in nats per trained token of `Tree.held`."""

    def __str__(self) -> str:
        return (
            f"mean KL {self.kl:.1e} of {self.tokens}, {self.answer_kl:.1e} of {self.answers} before"
            f" trained tokens, there same top token {self.same_top:.1%}, lost {self.lost:.1e}"
        )


def check(
    folder: Path, adapter: Path, probes: Tree, plain: Read, merged: Read, merge_dtype: str = "F16"
) -> Agreement:
    """Compare base + adapter, as PEFT computes them, with the merged weights.

    Args:
        folder: the base's directory, for its config.
        probes: what both read, and after which of it they are compared.
        plain: a weight of the base by name, in float32.
        merged: a weight after the merge.
        merge_dtype: the type that the merged weights were rounded to.

    Raises:
        BadInput: PEFT uses other factors than those in the adapter's file.
        ToolFailed: they differ by more than rounding to 16 bit explains.
    """
    from peft import PeftModel
    from safetensors.numpy import load_file

    with warnings.catch_warnings():  # that weights are not loaded: they are, when it computes
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")
        model = PeftModel.from_pretrained(empty(folder), str(adapter)).eval()
    bare = waiting(model)
    factors = load_file(adapter / "adapter_model.safetensors")
    asked = {name for _, names in bare for name in names.values() if ".lora_" in name}
    if different := asked ^ set(factors):  # by its target_modules, say
        raise BadInput(
            f"PEFT does not use the adapter as it is stored: {sorted(different)[0]}",
            "Merged are adapters whose config names all modules that they have factors for.",
        )

    def unmerged(name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """The adapter's, or the base's."""
        return factors[name][start:stop] if name in factors else plain(name, start, stop)

    with brought(bare, unmerged):
        ours = _logits(model, probes)
    with brought(bare, merged), model.disable_adapter():
        theirs = _logits(model, probes)
    agreement = compare(ours, theirs, probes.trained, merge_dtype)
    return replace(agreement, loss=_loss(ours, probes))


def _logits(model: Any, probes: Tree) -> NDArray[Any]:
    """Float32 logits after each judged token, shape (tokens, vocabulary).

    All probes are one sequence, so weights are read once and nothing is padded: a token's position
    is its depth in the tree, and the mask lets it see what it continues.
    """
    import torch

    seen = torch.from_numpy(probes.seen())
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    with torch.no_grad():
        found = model(
            input_ids=torch.tensor([probes.ids]),
            attention_mask=mask[None, None],
            position_ids=torch.tensor([probes.depths]),
            logits_to_keep=torch.tensor(probes.judged),
            use_cache=False,
        )
    logits: NDArray[Any] = found.logits[0].float().numpy()
    return logits


def _loss(logits: NDArray[Any], probes: Tree) -> float | None:
    import torch

    losses = [
        -torch.log_softmax(torch.from_numpy(logits[row]).double(), -1)[token].item()
        for token, row in probes.learned()
    ]
    return sum(losses) / len(losses) if losses else None


def compare(
    ours: NDArray[Any], theirs: NDArray[Any], trained: list[bool], merge_dtype: str = "F16"
) -> Agreement:
    """How close two models are.

    Args:
        ours: logits of base + adapter, (tokens, vocabulary).
        theirs: those of the merged weights.
        trained: of each token, whether a trained one follows.
        merge_dtype: the type that the merged weights were rounded to.

    Raises:
        ToolFailed: they differ by more than this rounding explains.
    """
    import numpy as np
    import torch

    rows = []
    for start in range(0, len(ours), 16):  # in blocks: a vocabulary of 256 k makes large arrays
        p = torch.log_softmax(torch.from_numpy(ours[start : start + 16]).double(), -1)
        q = torch.log_softmax(torch.from_numpy(theirs[start : start + 16]).double(), -1)
        own, other = p.argmax(-1, keepdim=True), q.argmax(-1, keepdim=True)
        lost = (p.gather(-1, own).exp() - p.gather(-1, other).exp())[:, 0]
        rows.append(torch.stack([(p.exp() * (p - q)).sum(-1), lost, (own == other)[:, 0]]))
    kl, lost, same = torch.cat(rows, 1).numpy()
    answers = np.array(trained)
    agreement = Agreement(
        kl=float(kl.mean()),
        tokens=len(ours),
        answer_kl=float(kl[answers].mean()),
        lost=float(lost[answers].mean()),
        same_top=float(same[answers].mean()),
        answers=int(answers.sum()),
    )
    _check(agreement, merge_dtype)
    return agreement


def _check(found: Agreement, merge_dtype: str) -> None:
    most = MAX_KL[merge_dtype]
    near = found.kl < most and found.answer_kl < MAX_ANSWER_KL  # NaN is not
    if not (near and found.lost < MAX_LOST):
        raise ToolFailed(
            f"the merged model is not base + adapter: {found}"
            f" (allowed: KL below {most} and {MAX_ANSWER_KL}, lost below {MAX_LOST})",
            _way_out(merge_dtype),
        )


def _way_out(merge_dtype: str) -> str:
    if merge_dtype == "BF16":  # seven bits of a weight, where float16 has ten
        return "BF16 is too coarse for this adapter: take another type (--quantize Q8_0 or F16)."
    return (
        "Training again does not change this, for your data is not at fault: please report these"
        " figures and the base's name."
    )
