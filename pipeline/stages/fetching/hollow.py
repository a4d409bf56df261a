"""A directory's weights as a file of the right names and shapes without data: it takes no room.

The converter outlines it as it would the weights themselves (outlining.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.common.errors import ToolFailed
from pipeline.common.foreign import shown
from pipeline.stages.fetching import bf16
from pipeline.stages.packing.empty import empty

BESIDE = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


def write(source: Path, out: Path) -> None:
    """Write a directory like `source` with a hollow model.safetensors.

    Args:
        source: has config.json and tokenizer.

    Raises:
        ToolFailed: transformers makes no model of this config.json.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in BESIDE:
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)
    bf16.write_hollow(out / "model.safetensors", shapes(source))


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's tensors by name, as config.json makes it.

    Raises:
        ToolFailed: transformers makes no model of it.
    """
    try:
        model = empty(folder)
    except Exception as error:  # a stranger's numbers reach many places
        raise ToolFailed(
            f"transformers makes no model of the base's keys: {shown(error, 200)}"
        ) from error
    named = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    return {
        name: tuple(tensor.shape)
        for name, tensor in named.items()
        if first.setdefault(id(tensor), name) == name  # the second name of a tied weight
    }
