"""Llama 2 and 3, SmolLM2, and all that share their code: Mistral in a GGUF among them."""

from __future__ import annotations

from typing import Any

from pipeline.bases.families.family import Family, Gguf
from pipeline.bases.families.from_keys import own_head, positions, sizes
from pipeline.bases.gguf_keys import Keys


def config(key: Keys) -> dict[str, Any]:
    """config.json from the keys of a GGUF."""
    return {
        **sizes(key),
        **own_head(key),
        **positions(key),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }


FAMILY = Family("LlamaForCausalLM", "llama", gguf=Gguf("llama", config))
