"""Gemma 3: the text models, and the text part of those that see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.bases.families import gemma
from pipeline.bases.families.family import WITHOUT_TENSOR, Family, Gguf
from pipeline.bases.families.from_keys import short
from pipeline.bases.gguf_keys import Keys
from pipeline.tools.gguf_layout import Place
from pipeline.tools.gguf_values import decoded, float32, text

LARGEST, PATTERN = 62, 6  # llama.cpp, src/models/gemma3.cpp
LONG = 131072  # tokens of context: the larger ones scale positions by 8 for it


def config(key: Keys) -> dict[str, Any]:
    """config.json from the keys of a GGUF."""
    whole = {"rope_type": "default", "rope_theta": short(key("rope.freq_base", 1e6))}
    if key("rope.scaling.type", "none") == "linear":
        whole |= {"rope_type": "linear", "factor": short(key("rope.scaling.factor"))}
    sliding = {"rope_type": "default", "rope_theta": short(key("rope.freq_base_swa", 1e4))}
    softcap = key("final_logit_softcapping", None)
    return {
        **gemma.config(key, largest=LARGEST, pattern=PATTERN),
        "rope_parameters": {"full_attention": whole, "sliding_attention": sliding},
        "sliding_window": int(key("attention.sliding_window")),
        **({"final_logit_softcapping": short(softcap)} if softcap else {}),
    }


def normal(keys: dict[str, bytes], tensors: Mapping[str, Place]) -> dict[str, bytes]:
    """Keys as llama.cpp's converter writes them, of those that Ollama's wrote.

    What is absent there is what its patched llama.cpp puts in (handle_gemma3 in Ollama's
    llama/compat/llama-ollama-compat.cpp).
    """
    front = "gemma3."
    found = {
        n: raw for n, raw in keys.items() if not n.startswith((front + "mm.", front + "vision."))
    }
    for ours, theirs in (("freq_base", "global.freq_base"), ("freq_base_swa", "local.freq_base")):
        if raw := found.pop(f"{front}rope.{theirs}", None):
            found.setdefault(f"{front}rope.{ours}", raw)
    by_default = {
        "attention.layer_norm_rms_epsilon": float32(1e-6),
        "rope.freq_base": float32(1e6),
        "rope.freq_base_swa": float32(1e4),
    }
    length = decoded(found[f"{front}context_length"]) if f"{front}context_length" in found else 0
    if isinstance(length, int) and length >= LONG:
        by_default |= {"rope.scaling.type": text("linear"), "rope.scaling.factor": float32(8.0)}
    if _ollamas(keys, tensors):
        for name, raw in by_default.items():
            found.setdefault(front + name, raw)
    return found


def _ollamas(keys: Mapping[str, bytes], tensors: Mapping[str, Place]) -> bool:
    """True of a file that Ollama's converter wrote: by the marks that Ollama itself goes by."""
    marks = ("gemma3.mm.tokens_per_image", "gemma3.rope.global.freq_base")
    more = ("tokenizer.ggml.add_padding_token", "tokenizer.ggml.add_unknown_token")
    return (
        any(mark in keys for mark in (*marks, "gemma3.rope.local.freq_base", *more))
        or "gemma3.attention.layer_norm_rms_epsilon" not in keys
    )


def fault(config: dict[str, Any]) -> str:
    """Why llama.cpp would compute something else; '' if it does not."""
    if not config.get("sliding_window"):
        return "it has no sliding_window"
    sliding = (config.get("rope_parameters") or {}).get("sliding_attention") or {}
    if sliding.get("rope_type", "default") != "default":
        return "positions are scaled in layers with a window, too"
    return gemma.fault(config, largest=LARGEST, pattern=PATTERN)


FAMILY = Family(
    "Gemma3ForCausalLM",
    "gemma3_text",
    expected=gemma.WANTED,
    attention=("sliding_attention", "full_attention"),
    scalings=WITHOUT_TENSOR,
    more_keys=gemma.MORE_KEYS,
    needs=gemma.NEEDS,
    fault=fault,
    gguf=Gguf("gemma3", config, normal),
)
