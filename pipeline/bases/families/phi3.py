"""Phi-3 and Phi-4 without a scaling of positions; q, k and v are one matrix, gate and up another.

The variants for 128,000 tokens (longrope) compute with other factors beyond 4,096 tokens: llama.cpp
decides by the context that is served, transformers by the text. They are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.bases import known_keys
from pipeline.bases.families.family import (
    EXPECTED,
    Family,
    Gguf,
    Number,
    Shapes,
    no_shorter_window,
)
from pipeline.bases.families.from_keys import head, positions, sizes
from pipeline.bases.gguf_keys import Keys
from pipeline.common.errors import BadInput

TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def config(key: Keys) -> dict[str, Any]:
    """config.json from the keys of a GGUF.

    Raises:
        BadInput: positions are scaled.
    """
    if key.shape("rope_factors_long.weight") is not None:
        raise BadInput(
            f"{key.path}: its position scaling 'longrope' is not supported",
            "Take the variant of the same model for 4k tokens, or Phi-4.",
        )
    turned = int(key("rope.dimension_count", head(key)))
    return {
        **sizes(key),
        **positions(key),
        "partial_rotary_factor": turned / head(key),
        "original_max_position_embeddings": int(
            key("rope.scaling.original_context_length", key("context_length"))
        ),
        "sliding_window": None,  # llama.cpp has switched it off (src/models/phi3.cpp)
        "hidden_act": "silu",
    }


def shapes(number: Number, layers: int, config: Mapping[str, Any]) -> Shapes:
    """Matrices by config.json."""
    width, inner, heads = map(number, ("hidden_size", "intermediate_size", "num_attention_heads"))
    keys, one = number("num_key_value_heads", heads), width // heads
    found: Shapes = {"model.embed_tokens.weight": (number("vocab_size"), width)}
    for i in range(layers):
        block = f"model.layers.{i}"
        found |= {
            f"{block}.self_attn.qkv_proj.weight": ((heads + 2 * keys) * one, width),
            f"{block}.self_attn.o_proj.weight": (width, heads * one),
            f"{block}.mlp.gate_up_proj.weight": (2 * inner, width),
            f"{block}.mlp.down_proj.weight": (width, inner),
        }
    return found


FAMILY = Family(
    "Phi3ForCausalLM",
    "phi3",
    targets=TARGETS,
    shapes=shapes,
    expected={**EXPECTED, "attention_bias": False, "resid_pdrop": 0.0, "embd_pdrop": 0.0},
    scalings={"default": ()},  # the converter writes no other one for it
    more_keys={
        **dict.fromkeys(("resid_pdrop", "embd_pdrop"), known_keys.real),
        "original_max_position_embeddings": known_keys.number,
    },
    fault=no_shorter_window,
    gguf=Gguf(
        "phi3",
        config,
        silent={"attention.sliding_window": "llama.cpp has switched it off (src/models/phi3.cpp)"},
    ),
)
