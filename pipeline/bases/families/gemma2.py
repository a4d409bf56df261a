"""Gemma 2."""

from __future__ import annotations

from typing import Any

from pipeline.bases.families import gemma
from pipeline.bases.families.family import Family, Gguf
from pipeline.bases.families.from_keys import short
from pipeline.bases.gguf_keys import Keys

LARGEST, PATTERN = 46, 2  # llama.cpp, src/models/gemma2.cpp
THETA = 10000.0  # the converter writes nothing of positions


def config(key: Keys) -> dict[str, Any]:
    """config.json from the keys of a GGUF."""
    return {
        **gemma.config(key, largest=LARGEST, pattern=PATTERN),
        "rope_theta": short(key("rope.freq_base", 10000.0)),
        "sliding_window": int(key("attention.sliding_window", 4096)),
        "attn_logit_softcapping": short(key("attn_logit_softcapping", 50.0)),
        "final_logit_softcapping": short(key("final_logit_softcapping", 30.0)),
    }


def fault(config: dict[str, Any]) -> str:
    """Why llama.cpp would compute something else; '' if it does not."""
    positions = config.get("rope_parameters") or {}
    if {config.get("rope_theta", THETA), positions.get("rope_theta", THETA)} != {THETA}:
        return f"rope_theta is not {THETA:.0f}"
    if config.get("tie_word_embeddings") is False:
        return "it has an output matrix of its own (tie_word_embeddings)"
    return gemma.fault(config, largest=LARGEST, pattern=PATTERN)


FAMILY = Family(
    "Gemma2ForCausalLM",
    "gemma2",
    expected=gemma.WANTED,
    attention=("sliding_attention", "full_attention"),
    more_keys=gemma.MORE_KEYS,
    needs=gemma.NEEDS,
    scalings={"default": ()},
    fault=fault,
    gguf=Gguf("gemma2", config),
)
