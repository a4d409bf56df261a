"""Llama 2 and 3, SmolLM2, and all that share their code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.bases.families.family import Family, Gguf


def config(key: Callable[[str], Any]) -> dict[str, Any]:
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


GGUF = Gguf(
    architecture="llama",
    whole={
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    },
    in_block={
        "attn_norm.weight": "input_layernorm.weight",
        "attn_q.weight": "self_attn.q_proj.weight",
        "attn_k.weight": "self_attn.k_proj.weight",
        "attn_v.weight": "self_attn.v_proj.weight",
        "attn_output.weight": "self_attn.o_proj.weight",
        "ffn_norm.weight": "post_attention_layernorm.weight",
        "ffn_gate.weight": "mlp.gate_proj.weight",
        "ffn_up.weight": "mlp.up_proj.weight",
        "ffn_down.weight": "mlp.down_proj.weight",
    },
    rotated={
        "attn_q.weight": "attention.head_count",
        "attn_k.weight": "attention.head_count_kv",
    },
    config=config,
)
FAMILY = Family("LlamaForCausalLM", "llama", gguf=GGUF)
