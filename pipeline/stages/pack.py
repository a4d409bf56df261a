"""Base + adapter to one quantized GGUF: merge into 16 bit, convert, quantize, and check each step.

Nothing foreign is trusted to have done its work: every adapted module must differ in the stored
weights, the merged model must agree with base + adapter, no weight may be NaN or infinite.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Adapter, Base, Dataset, Gguf
from pipeline.errors import BadInput, ToolFailed
from pipeline.settings import Pack
from pipeline.stage import Progress, Stage, Where
from pipeline.tools import llamacpp

if TYPE_CHECKING:
    from numpy.typing import NDArray

STAGE = Stage("pack", version=1, makes=Gguf, pinned=(llamacpp.REVISION,))

COMPARED = 1000  # tokens of test rows that merged and unmerged model both read
MAX_KL = 0.001
MIN_SAME_TOP = 0.99
STEPS = 4


def run(
    out: Path, settings: Pack, base: Base, adapter: Adapter, data: Dataset, *, where: Where
) -> Gguf:
    """Merge, compare, convert, quantize.

    Raises:
        BadInput: a quantization that llama.cpp does not know.
        ToolFailed: a weight that is no number, a merge without effect, or with another effect.
    """
    import torch

    check_type(settings.quantization)
    torch.set_num_threads(where.threads)
    scratch = out / "scratch"
    where.report(Progress(0, STEPS, "merge"))
    probes = _probes(data)
    adapted = _adapted(base, adapter)
    tuned = _logits(adapted, probes)
    _merge(adapted, base, scratch / "merged")
    del adapted
    gc.collect()
    where.report(Progress(1, STEPS, "check the merge"))
    _check_weights(base, adapter, scratch / "merged")
    where.report(Progress(2, STEPS, "convert, and compare with base + adapter"))
    plain = scratch / "plain.gguf"
    with ThreadPoolExecutor(1) as beside:  # the converter imports for ten seconds on one core
        converted = beside.submit(
            llamacpp.convert, scratch / "merged", plain, outtype="f16", name=base.name
        )
        merged = _logits(_plain(scratch / "merged"), probes)
        agreement = compare(tuned, merged)
        converted.result()
    where.say(f"merged and unmerged agree: {agreement}")
    del tuned, merged
    gc.collect()
    shutil.rmtree(scratch / "merged")
    where.report(Progress(3, STEPS, f"quantize to {settings.quantization}"))
    final = out / "model.gguf"
    if settings.quantization == "F16":
        plain.rename(final)
    else:
        llamacpp.quantize(plain, final, settings.quantization, where.threads)
    shutil.rmtree(scratch)
    _check_file(final, base)
    where.report(Progress(STEPS, STEPS))
    return Gguf.at(out, quantization=settings.quantization, size=final.stat().st_size)


def check_type(name: str) -> None:
    """Refuse a quantization that the installed llama.cpp cannot make.

    Raises:
        BadInput: with the names that it can.
    """
    known = llamacpp.quantization_types()
    if name not in known:
        raise BadInput(
            f"unknown quantization {name!r}", f"llama.cpp makes: {', '.join(sorted(known))}."
        )


def _adapted(base: Base, adapter: Adapter) -> Any:
    """Base and adapter side by side, as they were trained, in float32."""
    from peft import PeftModel

    return PeftModel.from_pretrained(_plain(base.path), str(adapter.path))


def _plain(folder: Path) -> Any:
    """A model in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )


def _merge(adapted: Any, base: Base, merged: Path) -> None:
    """Write the merged model: weights from PEFT in float32, rounded once to float16; the rest is
    the base's own files.

    float16 holds ten bits of a weight, bfloat16 seven: the merge is that much nearer to base +
    adapter. What it cannot hold (beyond 65,504) becomes infinite and is refused.
    """
    from safetensors.torch import save_file

    model = adapted.merge_and_unload()
    names = set(_tensor_names(base.path))
    weights = {n: w.half().contiguous() for n, w in model.state_dict().items() if n in names}
    if missing := names - set(weights):
        raise ToolFailed(f"the merged model lacks {sorted(missing)[0]} of {base.name}")
    merged.mkdir(parents=True)
    for file in base.path.iterdir():
        if file.suffix in (".json", ".jinja", ".model") and not file.name.endswith(
            ".safetensors.index.json"
        ):
            shutil.copy(file, merged)
    (merged / "record.json").unlink(missing_ok=True)
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _tensor_names(folder: Path) -> Iterator[str]:
    from safetensors import safe_open

    for shard in _shards(folder):
        with safe_open(shard, framework="pt") as tensors:
            yield from tensors.keys()


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    """Names and tensors of all shards, one at a time."""
    from safetensors import safe_open

    for shard in _shards(folder):
        with safe_open(shard, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (not a dict)
                yield name, tensors.get_tensor(name)


def _check_weights(base: Base, adapter: Adapter, merged: Path) -> None:
    """No weight is NaN or infinite, and every adapted module differs from the base."""
    import torch

    adapted = _adapted_weights(adapter)
    after = dict(_tensors(merged))
    for name, before in _tensors(base.path):
        if not bool(torch.isfinite(after[name]).all()):
            whose = "base" if not bool(torch.isfinite(before).all()) else "merged model"
            raise ToolFailed(
                f"{name} of the {whose} holds NaN or infinity",
                "Train with a lower learning rate (--set tune.learning_rate=…)"
                if whose != "base"
                else "Get an undamaged copy of the base.",
            )
        if name in adapted:
            adapted.discard(name)
            if torch.equal(before.half(), after[name]):
                raise ToolFailed(
                    f"merging changed nothing in {name}",
                    "The adapter is too weak to survive 16 bit: train longer or with a higher"
                    " learning rate.",
                )
    if adapted:
        raise ToolFailed(f"the adapter has a module that the base has not: {sorted(adapted)[0]}")


def _adapted_weights(adapter: Adapter) -> set[str]:
    """Names of the base's tensors that the adapter changes."""
    prefix, suffix = "base_model.model.", ".lora_A.weight"
    return {
        name.removeprefix(prefix).removesuffix(suffix) + ".weight"
        for name in _tensor_names(adapter.path)
        if name.endswith(suffix)
    }


def _probes(data: Dataset) -> list[list[int]]:
    """Token ids of test rows (train rows where there are none), about COMPARED tokens."""
    probes: list[list[int]] = []
    for row in data.part("test" if data.test else "train"):
        for sequence in row["sequences"]:
            probes.append(sequence["ids"][:COMPARED])
            if sum(map(len, probes)) >= COMPARED:
                return probes
    return probes


def _logits(model: Any, probes: list[list[int]]) -> NDArray[Any]:
    """Float32 logits after every token of the probes, shape (tokens, vocabulary)."""
    import torch

    model.eval()
    with torch.inference_mode():
        rows = [model(input_ids=torch.tensor([ids])).logits[0] for ids in probes]
        logits: NDArray[Any] = torch.cat(rows).float().numpy()
    return logits


class Agreement:
    """How close two models are on the same tokens."""

    def __init__(self, kl: float, same_top: float, tokens: int) -> None:
        self.kl, self.same_top, self.tokens = kl, same_top, tokens

    def __str__(self) -> str:
        return f"mean KL {self.kl:.1e}, same top token {self.same_top:.1%} of {self.tokens}"


def compare(ours: NDArray[Any], theirs: NDArray[Any]) -> Agreement:
    """Mean Kullback-Leibler divergence KL(ours || theirs) in nats, and how often the top agrees.

    Raises:
        ToolFailed: they differ by more than rounding to 16 bit explains.
    """
    import torch

    total = same = 0.0
    for start in range(0, len(ours), 64):  # in blocks: a vocabulary of 256 k makes large arrays
        p = torch.log_softmax(torch.from_numpy(ours[start : start + 64]).double(), -1)
        q = torch.log_softmax(torch.from_numpy(theirs[start : start + 64]).double(), -1)
        total += float((p.exp() * (p - q)).sum())
        same += float((p.argmax(-1) == q.argmax(-1)).sum())
    agreement = Agreement(total / len(ours), same / len(ours), len(ours))
    if not agreement.kl < MAX_KL or not agreement.same_top >= MIN_SAME_TOP:
        raise ToolFailed(
            f"the merged model is not base + adapter: {agreement}"
            f" (allowed: KL below {MAX_KL}, same top token at least {MIN_SAME_TOP:.0%})",
            "Train with a lower learning rate; if it stays, please report this.",
        )
    return agreement


def _check_file(file: Path, base: Base) -> None:
    """The GGUF opens, carries the frozen template, and ends a turn where training did."""
    import gguf

    field = gguf.GGUFReader(str(file)).get_field("tokenizer.chat_template")
    if field is None or field.contents() != base.template:
        raise ToolFailed("the converter did not carry the frozen chat template over")
    with llamacpp.Model(file) as model:
        if not model.is_end(base.end_of_turn):
            raise ToolFailed(f"generation would not end at {base.end_of_turn_text}")
