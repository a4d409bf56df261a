"""The long road: PEFT's merge, llama.cpp's converter, llama.cpp's quantizer.

It takes what the stream does not know, and is what the stream is compared with. It needs memory for
the whole model in float32 and writes it twice more.
"""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import Any

from pipeline.common.errors import ToolFailed
from pipeline.tools import converter, llamacpp

COPIED = (".json", ".jinja", ".model")  # of the base's files; its weights come merged


def merge(base: Path, adapter: Path, out: Path, merge_dtype: str) -> None:
    """A directory with the merged weights: from PEFT, in float32, rounded once.

    Args:
        merge_dtype: what the weights that the adapter changes are rounded to; others stay as they
            are.

    Raises:
        ToolFailed: a weight that is no number, or a module that merging does not change.
    """
    import torch
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(_float32(base), str(adapter))
    model = adapted.merge_and_unload()
    dtype = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}[merge_dtype]
    merged = model.state_dict()
    weights = {}
    changed = changed_by(adapter)
    if missing := changed - set(stored := _load(base)):
        raise ToolFailed(f"the adapter has a module that the base has not: {sorted(missing)[0]}")
    for name, before in stored.items():
        after = merged[name].to(dtype).contiguous() if name in changed else before
        _check(name, before, after, name in changed)
        weights[name] = after
    write(base, weights, out)
    del adapted, model, merged
    gc.collect()


def write(base: Path, weights: dict[str, Any], out: Path) -> None:
    """A directory with other weights and everything else of the base."""
    from safetensors.torch import save_file

    out.mkdir(parents=True)
    for file in base.iterdir():
        if file.suffix in COPIED and not file.name.endswith(".index.json"):
            shutil.copy(file, out)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def quantize(
    merged: Path, out: Path, quantization: str, merge_dtype: str, *, name: str, threads: int
) -> None:
    """Convert the merged directory and quantize it."""
    plain = out.with_suffix(".plain")
    converter.convert(merged, plain, outtype=merge_dtype.lower(), name=name)
    llamacpp.quantize(plain, out, quantization, threads)
    plain.unlink()


def changed_by(adapter: Path) -> set[str]:
    """Names of the base's tensors that the adapter changes."""
    from safetensors import safe_open

    prefix, suffix = "base_model.model.", ".lora_A.weight"
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as tensors:
        return {
            name.removeprefix(prefix).removesuffix(suffix) + ".weight"
            for name in tensors.keys()  # noqa: SIM118  (not a dict)
            if name.endswith(suffix)
        }


def _check(name: str, before: Any, after: Any, adapted: bool) -> None:
    import torch

    if not bool(torch.isfinite(after).all()):
        whose = "base" if not bool(torch.isfinite(before).all()) else "merged model"
        raise ToolFailed(
            f"{name} of the {whose} holds NaN or infinity",
            "Train with a lower learning rate (--set tune.learning_rate=…)"
            if whose != "base"
            else "Get an undamaged copy of the base.",
        )
    if adapted and torch.equal(before.to(after.dtype), after):
        raise ToolFailed(
            f"merging changed nothing in {name}",
            "The adapter is too weak to survive 16 bit: train longer or with a higher learning"
            " rate.",
        )


def _load(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {
        n: w for file in sorted(folder.glob("*.safetensors")) for n, w in load_file(file).items()
    }


def _float32(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
