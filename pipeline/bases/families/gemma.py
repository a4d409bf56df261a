"""What Gemma 2 and 3 share: norms that add one, an embedding that is scaled, sliding windows."""

from __future__ import annotations

from typing import Any

from pipeline.bases import known_keys
from pipeline.bases.families.family import EXPECTED
from pipeline.bases.families.from_keys import head, sizes
from pipeline.bases.gguf_keys import Keys

ACT = "gelu_pytorch_tanh"
MORE_KEYS = {
    **dict.fromkeys(("query_pre_attn_scalar", "rope_local_base_freq"), known_keys.real),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), known_keys.real),
    **dict.fromkeys(("sliding_window_pattern", "_sliding_window_pattern"), known_keys.number),
    "hidden_activation": known_keys.word,
    "use_bidirectional_attention": known_keys.flag,
}
WANTED = {
    **EXPECTED,
    "hidden_act": ACT,
    "hidden_activation": ACT,
    "attention_bias": False,
    "use_bidirectional_attention": False,
}
NEEDS = ("tokenizer.model",)


def config(key: Keys, *, largest: int, pattern: int) -> dict[str, Any]:
    """What both say in config.json.

    Args:
        largest: layers of the largest one, whose attention is scaled otherwise.
        pattern: every so many layers one attends to the whole text.
    """
    return {
        **sizes(key),
        "head_dim": head(key),
        "query_pre_attn_scalar": scalar(sizes(key) | {"head_dim": head(key)}, largest),
        "layer_types": layer_types(int(key("block_count")), pattern),
        "hidden_act": ACT,
        "hidden_activation": ACT,
        "attention_bias": False,
    }


def scalar(config: dict[str, Any], largest: int) -> int:
    """What llama.cpp divides by the root of before attention (gemma2.cpp, gemma3.cpp)."""
    if config["num_hidden_layers"] == largest:
        return int(config["hidden_size"]) // int(config["num_attention_heads"])
    return int(config["head_dim"])


def layer_types(layers: int, pattern: int) -> list[str]:
    """The last of every `pattern` layers attends to the whole text (load_swa_pattern)."""
    kinds = {True: "sliding_attention", False: "full_attention"}
    return [kinds[i % pattern < pattern - 1] for i in range(layers)]


def fault(config: dict[str, Any], *, largest: int, pattern: int) -> str:
    """Why llama.cpp would compute something else; '' if it does not."""
    said = config.get("query_pre_attn_scalar", 256)
    wanted = scalar({"head_dim": 256, **config}, largest)
    if said != wanted:
        return f"query_pre_attn_scalar is {said}, llama.cpp computes with {wanted}"
    every = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or pattern
    types = config.get("layer_types")
    if every != pattern or types not in (None, layer_types(config["num_hidden_layers"], pattern)):
        return f"other layers than every {pattern}th attend to the whole text (layer_types)"
    return ""
