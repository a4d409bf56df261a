"""Qwen 3, dense."""

from __future__ import annotations

from typing import Any

from pipeline.bases.families.family import WITHOUT_TENSOR, Family, Gguf
from pipeline.bases.families.from_keys import head, positions, sizes
from pipeline.bases.gguf_keys import Keys


def config(key: Keys) -> dict[str, Any]:
    """config.json from the keys of a GGUF."""
    return {
        **sizes(key),
        "head_dim": head(key),  # transformers takes 128 without it
        **positions(key),
        "hidden_act": "silu",
        "attention_bias": False,
    }


FAMILY = Family("Qwen3ForCausalLM", "qwen3", scalings=WITHOUT_TENSOR, gguf=Gguf("qwen3", config))
