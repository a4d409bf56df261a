"""Llama 2 and 3, SmolLM2, and all that share their code."""

from __future__ import annotations

from typing import Any

from pipeline.bases.families.family import Family, Gguf
from pipeline.bases.gguf_keys import Keys


def config(key: Keys) -> dict[str, Any]:
    """config.json from the keys of a GGUF."""
    return {
        "hidden_size": int(key("embedding_length")),
        "intermediate_size": int(key("feed_forward_length")),
        "num_hidden_layers": int(key("block_count")),
        "num_attention_heads": int(key("attention.head_count")),
        "num_key_value_heads": int(key("attention.head_count_kv")),
        "vocab_size": int(key("vocab_size")),
        "max_position_embeddings": int(key("context_length")),
        "rms_norm_eps": float(f"{key('attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": float(key("rope.freq_base")),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }


FAMILY = Family("LlamaForCausalLM", "llama", gguf=Gguf("llama", config))
