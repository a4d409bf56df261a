"""Granite 3, dense: a Llama with four multipliers."""

from __future__ import annotations

from typing import Any

from pipeline.bases import known_keys
from pipeline.bases.families.family import WITHOUT_TENSOR, Family, Gguf
from pipeline.bases.families.from_keys import positions, short, sizes
from pipeline.bases.gguf_keys import Keys

MULTIPLIERS = {
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
}


def config(key: Keys) -> dict[str, Any]:
    """config.json from the keys of a GGUF."""
    return {
        **sizes(key),
        **positions(key),
        **{name: short(key(named)) for name, named in MULTIPLIERS.items()},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }


def fault(config: dict[str, Any]) -> str:
    """The converter leaves out a multiplier that is absent or zero, and llama.cpp has others."""
    lacking = [name for name in MULTIPLIERS if not config.get(name)]
    return f"{lacking[0]} is absent or zero" if lacking else ""


FAMILY = Family(
    "GraniteForCausalLM",
    "granite",
    scalings=WITHOUT_TENSOR,
    more_keys=dict.fromkeys(MULTIPLIERS, known_keys.real),
    fault=fault,
    gguf=Gguf("granite", config),
)
