"""Qwen 2 and 2.5, dense."""

from __future__ import annotations

from typing import Any

from pipeline.bases.families.family import WITHOUT_TENSOR, Family, Gguf
from pipeline.bases.families.from_keys import own_head, positions, sizes
from pipeline.bases.gguf_keys import Keys


def config(key: Keys) -> dict[str, Any]:
    """config.json from the keys of a GGUF."""
    return {**sizes(key), **own_head(key), **positions(key), "hidden_act": "silu"}


FAMILY = Family("Qwen2ForCausalLM", "qwen2", scalings=WITHOUT_TENSOR, gguf=Gguf("qwen2", config))
