"""A LoRA adapter in PEFT's format as factors to merge; what would be merged wrong is refused.

The update of a module is scale * B @ A, with A of shape (rank, inputs), B of (outputs, rank), and
scale = alpha / rank, or alpha / sqrt(rank) for rslora (peft/tuners/lora/layer.py). Rank and alpha
may differ by module: patterns are matched against the end of a module's name
(peft/utils/other.py, get_pattern_key).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import BadInput
from pipeline.common.values import read_json
from pipeline.stages.packing.arithmetic import widened
from pipeline.stages.packing.weights import Weights, opened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PREFIX = "base_model.model."
_HARMLESS = {  # says nothing about what is added to a weight
    *("auto_mapping", "base_model_name_or_path", "inference_mode"),
    *("lora_alpha", "lora_dropout", "megatron_core"),
    *("peft_type", "peft_version", "qalora_group_size", "r", "revision", "target_modules"),
    *("task_type", "use_rslora", "rank_pattern", "alpha_pattern", "ensure_weight_tying"),
    *("init_lora_weights", "runtime_config"),
}
# other initialisations (pissa, olora …) change the base, so that B·A is not the update
_PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal")


@dataclass(frozen=True)
class Lora:
    """The update of one weight: read from the file in the blocks in which it is used."""

    factors: Weights
    a: str
    """Name of the factor of shape (rank, columns of the weight)."""
    b: str
    """Name of the factor of shape (rows of the weight, rank)."""
    scale: float

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The factors of some rows of the weight: those rows of b, and the whole of a."""
        rank, columns = self.factors.tensors[self.a].shape
        b = widened(self.factors.bits(self.b, start, stop)).reshape(stop - start, rank)
        return b, widened(self.factors.bits(self.a, 0, rank)).reshape(rank, columns)


@contextmanager
def opened_adapter(folder: Path, base: Weights) -> Iterator[dict[str, Lora]]:
    """The updates by the name of the base's tensor that they change, until the block ends.

    Raises:
        BadInput: the adapter is no plain LoRA, or not one of this base: what, by name.
    """
    config = read_json(folder / "adapter_config.json")
    _check(config, folder)
    with opened([folder / "adapter_model.safetensors"]) as found:
        modules = sorted({_module(name, folder) for name in found.tensors})
        yield {f"{module}.weight": _lora(module, config, found, base, folder) for module in modules}


def _check(config: dict[str, Any], folder: Path) -> None:
    if config.get("peft_type") != "LORA":
        raise _refused(folder, f"it is of the kind {config.get('peft_type')}")
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        raise _refused(folder, f"init_lora_weights is {config['init_lora_weights']}")
    for key, value in sorted(config.items()):
        plain = value in (None, False, "none") or value == [] or value == {}
        if key not in _HARMLESS and not plain:
            raise _refused(folder, f"it uses {key} ({value})")


def _module(name: str, folder: Path) -> str:
    """`model.layers.0.mlp.up_proj` of base_model.model.model.layers.0.mlp.up_proj.lora_A.weight."""
    found = re.fullmatch(rf"{re.escape(_PREFIX)}(.+)\.lora_[AB]\.weight", name)
    if not found:
        raise _refused(folder, f"it holds {name}")
    return found[1]


def _lora(module: str, config: dict[str, Any], found: Weights, base: Weights, folder: Path) -> Lora:
    pair = [f"{_PREFIX}{module}.lora_{which}.weight" for which in "AB"]
    target = base.tensors.get(f"{module}.weight")
    if missing := [name for name in pair if name not in found.tensors]:
        raise _refused(folder, f"it lacks {missing[0]}")
    if target is None:
        raise _refused(folder, f"the base has no {module}.weight")
    a, b = (found.tensors[name] for name in pair)
    rank = _by_pattern(config.get("rank_pattern"), module, config.get("r", 8))
    if (a.shape, b.shape) != ((rank, target.row), (target.shape[0], rank)):
        shapes = f"{list(b.shape)} x {list(a.shape)} for {list(target.shape)} and rank {rank}"
        raise _refused(folder, f"the factors of {module} have shapes {shapes}")
    alpha = _by_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    divisor = math.sqrt(rank) if config.get("use_rslora") else rank
    return Lora(found, pair[0], pair[1], alpha / divisor)


def _by_pattern(patterns: dict[str, Any] | None, module: str, otherwise: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def _refused(folder: Path, why: str) -> BadInput:
    return BadInput(
        f"the adapter in {folder} cannot be merged faithfully: {why}",
        "Merged are plain LoRA adapters (rslora and patterns of rank and alpha included).",
    )
