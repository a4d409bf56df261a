"""All that a family decides, told of a tiny random checkpoint of it: what its golden file holds.

    python tests/decided.py ArchitectureForCausalLM    # writes the golden file; read what differs

The checkpoint is transformers' own, of one layer where all are alike; the outline of it is the
converter's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from families import FAMILIES as TINY
from families import family_directory

from pipeline.bases import checkpoint, families, known_keys
from pipeline.bases.families.family import Family
from pipeline.bases.gguf_keys import Keys
from pipeline.stages.fetching import outlines
from pipeline.tools import converter
from pipeline.tools.gguf_layout import layout
from pipeline.tools.outline import Tensor

LAYERS = {
    "gemma4_text": {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    }
}
GOLDEN = Path(__file__).parent / "golden/families"


def golden(family: Family) -> Path:
    """Where a family's golden file lies."""
    return GOLDEN / f"{family.architecture}.json"


def told(family: Family, folder: Path) -> dict[str, Any]:
    """The whole of a golden file, of a checkpoint that is made in `folder`."""
    tiny = next(name for name, (kind, *_) in TINY.items() if kind == family.model_type)
    family_directory(tiny, folder, **LAYERS.get(family.model_type, {"num_hidden_layers": 1}))
    outline = outlines.write_outline(folder, folder / "v.gguf", folder / "o.json", name="tiny")
    assert not outline.unknown
    config = checkpoint.read(folder, "config.json")
    del config["transformers_version"]  # whichever wrote it
    stored = checkpoint.header(folder / "model.safetensors")
    tensors = {name: _shape(info["shape"]) for name, info in sorted(stored.items())}
    return {
        "config": config,
        "tensors": tensors,
        "outline": {tensor.name: _line(tensor) for tensor in outline.tensors},
        "decided": decided(family, config, tensors),
        "config from a gguf": _config_from_gguf(family, folder),
    }


def decided(family: Family, config: Mapping[str, Any], tensors: Mapping[str, str]) -> Any:
    """What follows from the family's file for a checkpoint.

    Args:
        config: its config.json.
        tensors: shapes by name, as `320 x 256`.
    """

    def number(key: str, otherwise: int | None = None, /) -> int:
        return int(otherwise if config.get(key) is None else config[key])

    kept, left = known_keys.parted(config, family.keys)
    known = family.gguf
    return {
        "architecture": family.architecture,
        "model_type": family.model_type,
        "targets": list(family.targets),
        "adapted": [name for name in tensors if _module(name) in family.targets],
        "shapes": {
            name: _shape(shape)
            for name, shape in family.shapes(number, config["num_hidden_layers"], config).items()
        },
        "expected": dict(family.expected),
        "scalings": {name: list(needs) for name, needs in family.scalings.items()},
        "attention": list(family.attention),
        "more keys": sorted(family.more_keys),
        "keys that go on": list(kept),
        "keys left out": left,
        "gguf": known and {"architecture": known.architecture, "silent": dict(known.silent)},
    }


def _module(tensor: str) -> str:
    """`q_proj` of model.layers.0.self_attn.q_proj.weight."""
    return tensor.removesuffix(".weight").rpartition(".")[2]


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape))


def _line(tensor: Tensor) -> str:
    """In a line: where it comes from and what is done to it."""
    order = f", order {list(tensor.order[:4])} … of {len(tensor.order)}" if tensor.order else ""
    added = f", {tensor.added:+g}" if tensor.added else ""
    return f"{tensor.kind} {_shape(tensor.shape)} of {tensor.source}{order}{added}"


def _config_from_gguf(family: Family, folder: Path) -> dict[str, Any] | None:
    """config.json as the family reads it from what the converter writes."""
    converter.convert(folder, folder / "model.gguf", outtype="f32")
    return family.gguf and family.gguf.config(
        Keys(folder / "model.gguf", layout(folder / "model.gguf"))
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        one = families.of(sys.argv[1])
        text = json.dumps(told(one, Path(folder)), indent=1, ensure_ascii=False)
        golden(one).write_text(text + "\n", encoding="utf-8")
