"""What the keys of a GGUF say that every family has, as config.json says it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.bases.gguf_keys import Keys
from pipeline.common.errors import BadInput

FACTORS = "rope_freqs.weight"
LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
NEAR = 1e-4  # of a factor that was computed in 32 bits


def short(value: float) -> float:
    """A number as people wrote it before it had 32 bits: 1e-05, 0.22."""
    return float(f"{value:.6g}")


def head(key: Keys) -> int:
    """Length of a head's vectors."""
    implied = int(key("embedding_length")) // int(key("attention.head_count"))
    return int(key("attention.key_length", implied))


def sizes(key: Keys) -> dict[str, Any]:
    """Sizes, and what stands beside them in every config.json.

    Raises:
        BadInput: a key is absent.
    """
    embedding = key.shape("token_embd.weight")
    return {
        "hidden_size": int(key("embedding_length")),
        "intermediate_size": _first(key("feed_forward_length")),
        "num_hidden_layers": int(key("block_count")),
        "num_attention_heads": int(key("attention.head_count")),
        "num_key_value_heads": _first(key("attention.head_count_kv", key("attention.head_count"))),
        # rows, not tokens: some files pad one, some the other
        "vocab_size": embedding[0] if embedding else len(key.whole("tokenizer.ggml.tokens")),
        "max_position_embeddings": int(key("context_length")),
        "rms_norm_eps": short(key("attention.layer_norm_rms_epsilon")),
    }


def _first(value: Any) -> int:
    """A number of the first layer; that all have the same is what `agree.check_keys` sees."""
    return int(value[0] if isinstance(value, list) else value)


def own_head(key: Keys) -> dict[str, int]:
    """head_dim, where it is not width / heads."""
    implied = int(key("embedding_length")) // int(key("attention.head_count"))
    return {} if head(key) == implied else {"head_dim": head(key)}


def positions(key: Keys) -> dict[str, Any]:
    """rope_theta, and the scaling of positions where there is one.

    Raises:
        BadInput: a scaling that is not carried over, by name.
    """
    found: dict[str, Any] = {"rope_theta": short(key("rope.freq_base", 10000.0))}
    kind = str(key("rope.scaling.type", "none"))
    if kind == "linear":
        found["rope_scaling"] = {"rope_type": "linear", "factor": short(key("rope.scaling.factor"))}
    elif kind != "none":
        raise BadInput(
            f"{key.path}: its position scaling {kind!r} is not supported",
            "Supported: none, linear, and that of Llama 3.",
        )
    elif factors := key.numbers(FACTORS):
        found["rope_scaling"] = llama3(factors, found["rope_theta"])
    return found


def llama3(factors: Sequence[float], theta: float) -> dict[str, Any]:
    """Llama 3's scaling, of which a GGUF has only what it makes of each frequency.

    The inverse of generate_extra_tensors in llama.cpp's conversion/llama.py. Three numbers stand
    behind two that can be seen, so `low_freq_factor` is 1, as everywhere.
    """
    if not all(0 < factor < math.inf for factor in factors):
        raise ValueError(f"{FACTORS} holds what is no factor")
    most = short(max(factors))
    plain: dict[str, Any] = {"rope_type": "llama3", "factor": most, **LLAMA3}
    if _makes(plain, factors, theta):
        return plain
    points = []
    for i, factor in enumerate(factors):
        if 1.0 + NEAR < factor < most * (1 - NEAR):
            share = (1 / factor - 1 / most) / (1 - 1 / most)
            points.append((1 / _wave(i, len(factors), theta), share))
    if len(points) < 2:
        return plain  # the certificate will say that it makes other numbers
    (x, y), (x2, y2) = points[0], points[-1]
    slope = (y2 - y) / (x2 - x)
    apart = 1 / (slope * x - y)  # high - low, where low is 1
    return {
        **plain,
        "high_freq_factor": short(1 + apart),
        "original_max_position_embeddings": round(slope * apart),
    }


def _wave(i: int, count: int, theta: float) -> float:
    """Tokens in which a frequency turns round once."""
    return float(2 * math.pi * theta ** (i / count))


def _makes(scaling: dict[str, Any], factors: Sequence[float], theta: float) -> bool:
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    original, most = scaling["original_max_position_embeddings"], scaling["factor"]
    for i, factor in enumerate(factors):
        wave = _wave(i, len(factors), theta)
        share = min(1.0, max(0.0, (original / wave - low) / (high - low)))
        if not math.isclose(factor, 1 / ((1 - share) / most + share), rel_tol=NEAR):
            return False
    return True
