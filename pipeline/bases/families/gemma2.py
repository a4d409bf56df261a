"""Gemma 2."""

from __future__ import annotations

from functools import partial
from typing import Any

from pipeline.bases.families import gemma
from pipeline.bases.families.family import Family, Gguf
from pipeline.bases.families.from_keys import short
from pipeline.bases.gguf_keys import Keys

LARGEST, PATTERN = 46, 2  # llama.cpp, src/models/gemma2.cpp


def config(key: Keys) -> dict[str, Any]:
    """config.json from the keys of a GGUF."""
    return {
        **gemma.config(key, largest=LARGEST, pattern=PATTERN),
        "rope_theta": short(key("rope.freq_base", 10000.0)),
        "sliding_window": int(key("attention.sliding_window", 4096)),
        "attn_logit_softcapping": short(key("attn_logit_softcapping", 50.0)),
        "final_logit_softcapping": short(key("final_logit_softcapping", 30.0)),
    }


FAMILY = Family(
    "Gemma2ForCausalLM",
    "gemma2",
    expected=gemma.WANTED,
    attention=("sliding_attention", "full_attention"),
    more_keys=gemma.MORE_KEYS,
    needs=gemma.NEEDS,
    fault=partial(gemma.fault, largest=LARGEST, pattern=PATTERN),
    gguf=Gguf("gemma2", config),
)
