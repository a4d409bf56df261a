"""A family and an origin as CONTRIBUTING tells to add them, and a tiny base of both.

The family is Arcee's: a Llama whose MLP has no gate, and another activation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file
from tiny import tiny_base_directory

from pipeline.bases import checkpoint
from pipeline.bases.families.family import EXPECTED, LINEAR, Family, Number, Shapes, gated
from pipeline.bases.located import Located, Origin, Report, digests
from pipeline.common.values import digest_of


def shapes(number: Number, layers: int, config: Mapping[str, Any]) -> Shapes:
    """A Llama's without the gates."""
    found = gated(number, layers, config)
    return {name: shape for name, shape in found.items() if ".gate_proj." not in name}


FAMILY = Family(
    "ArceeForCausalLM",
    "arcee",
    targets=tuple(name for name in LINEAR if name != "gate_proj"),
    shapes=shapes,
    expected={**EXPECTED, "hidden_act": "relu2"},
)


def directory(folder: Path) -> Path:
    """The tiny base, as one of this family."""
    tiny_base_directory(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": [FAMILY.architecture], "model_type": FAMILY.model_type}
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu2"}))
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if ".gate_proj." not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def locate(text: str, beside: Path, report: Report) -> Located:
    """`toy:NAME` is a folder on the shelf beside the Modelfile."""
    folder = beside / "shelf" / text.removeprefix("toy:")
    files = digests(folder, checkpoint.declared(folder))
    return Located(
        origin=ORIGIN.name,
        format="huggingface",
        name=text,
        digest=digest_of(files),
        path=folder,
        files=files,
        license="As the shelf says.",
    )


ORIGIN = Origin("toy", means=lambda text: text.startswith("toy:"), locate=locate)
