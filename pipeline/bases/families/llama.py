"""Llama 2 and 3, SmolLM2, and all that share their code: Mistral in a GGUF among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.bases.families.family import Family, Gguf
from pipeline.bases.families.from_keys import own_head, positions, sizes
from pipeline.bases.gguf_keys import Keys
from pipeline.tools.gguf_layout import Place
from pipeline.tools.gguf_values import decoded, text, texts, uint32

PRE = "tokenizer.ggml.pre"
EOS, EOT = "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"
TEXT_END, TURN_END = 128001, 128009  # of Llama 3's vocabulary


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


def normal(keys: dict[str, bytes], tensors: Mapping[str, Place]) -> dict[str, bytes]:
    """Keys of Llama 3 files of 2024, which lack how texts are split and end at another token.

    As Ollama's patched llama.cpp mends them (handle_llama3_metadata in its
    llama/compat/llama-ollama-compat.cpp).
    """
    split, end = decoded(keys.get(PRE, text(""))), decoded(keys.get(EOS, uint32(0)))
    if split not in ("", "default") and end != TEXT_END:
        return keys
    tokens = decoded(keys.get("tokenizer.ggml.tokens", texts([])))
    if len(tokens) <= TURN_END or tokens[TURN_END] != "<|eot_id|>":
        return keys
    found = {**keys, EOS: uint32(TURN_END), EOT: uint32(TURN_END)}
    return {**found, PRE: text("llama-bpe")} if split in ("", "default") else found


FAMILY = Family("LlamaForCausalLM", "llama", gguf=Gguf("llama", config, normal))
