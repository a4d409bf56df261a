"""Gemma 4 without experts: layers of two widths, the last of them with keys of others, and an
embedding of its own for each layer in the small ones.

Ollama renders it by code of its own (stages/fetching/served_base.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.bases import known_keys
from pipeline.bases.families.family import EXPECTED, Family, Gguf, Number, Shapes
from pipeline.bases.families.from_keys import FACTORS, short, sizes
from pipeline.bases.gguf_keys import Keys
from pipeline.common.errors import BadInput
from pipeline.tools.gguf_layout import Place
from pipeline.tools.gguf_values import decoded, text

ACT = "gelu_pytorch_tanh"
FULL, SLIDING = "full_attention", "sliding_attention"
COUNTS = (
    *("global_head_dim", "num_global_key_value_heads", "num_kv_shared_layers"),
    *("hidden_size_per_layer_input", "vocab_size_per_layer_input"),
    *("num_experts", "top_k_experts", "moe_intermediate_size"),
)
MOST = 1000  # layers; a stranger's number may be any
WIDE = 512  # transformers' global_head_dim where a config has none


def config(key: Keys) -> dict[str, Any]:
    """config.json from the keys of a GGUF.

    Raises:
        BadInput: it is a mixture of experts.
    """
    if int(key("expert_count", 0)):
        raise BadInput(
            f"{key.path} is a mixture of experts, whose stacked matrices are not adapted here",
            "Take a dense Gemma 4 (gemma4:e4b, gemma4:31b).",
        )
    layers = int(key("block_count"))
    kinds = [SLIDING if s else FULL for s in key("attention.sliding_window_pattern")]
    if len(kinds) != layers:  # before anything is made for so many
        raise ValueError(f"{layers} layers, of which {len(kinds)} have a kind")
    whole, own = int(key("attention.key_length")), int(key("attention.key_length_swa"))
    shared, inner = int(key("attention.shared_kv_layers", 0)), _each(key("feed_forward_length"))
    heads = _each(key("attention.head_count_kv"), layers)
    own_keys = [i for i, kind in enumerate(kinds[: layers - shared]) if kind == FULL]
    values = [key.shape(f"blk.{i}.attn_v.weight") for i in own_keys]
    of_kind = dict(zip(kinds, heads, strict=True))
    softcap = key("final_logit_softcapping", None)
    embedded = key.shape("per_layer_token_embd.weight")
    factors = key.numbers(FACTORS)
    turned = sum(factor == 1.0 for factor in factors or ())
    return {
        **sizes(key),
        "num_key_value_heads": of_kind.get(SLIDING, heads[0]),
        "head_dim": own,
        "global_head_dim": whole,
        # a number of its own only where keys are values (configuration_gemma4.py)
        **({} if all(values) else {"num_global_key_value_heads": of_kind.get(FULL)}),
        "attention_k_eq_v": not all(values),
        "layer_types": kinds,
        "sliding_window": int(key("attention.sliding_window")),
        "num_kv_shared_layers": shared,
        "use_double_wide_mlp": inner[-1] != inner[0],
        "hidden_size_per_layer_input": int(key("embedding_length_per_layer_input", 0)),
        **({"vocab_size_per_layer_input": embedded[0]} if embedded else {}),
        "rope_parameters": {
            FULL: {
                "rope_type": "proportional",
                "rope_theta": short(key("rope.freq_base")),
                "partial_rotary_factor": 2 * turned / whole,
            },
            SLIDING: {"rope_type": "default", "rope_theta": short(key("rope.freq_base_swa"))},
        },
        "final_logit_softcapping": short(softcap) if softcap else None,
        "hidden_activation": ACT,
        "attention_bias": False,
        "enable_moe_block": False,
    }


def _each(value: Any, count: int = 1) -> list[int]:
    """A number of each layer: a key has one for all, or a list."""
    return [int(v) for v in value] if isinstance(value, list) else [int(value)] * count


def normal(keys: dict[str, bytes], tensors: Mapping[str, Place]) -> dict[str, bytes]:
    """Keys as llama.cpp's converter writes them, of those that Ollama's wrote (handle_gemma4 in
    Ollama's llama/compat/llama-ollama-compat.cpp)."""
    others = tuple(f"gemma4.{part}." for part in ("mm", "vision", "audio"))
    found = {name: raw for name, raw in keys.items() if not name.startswith(others)}
    if found.get("tokenizer.ggml.model") == text("llama"):
        found["tokenizer.ggml.model"] = text("gemma4")
    return found


def unread(keys: Mapping[str, bytes]) -> tuple[str, ...]:
    """Keys and values of layers that take those of others: files have them, nothing reads them."""
    names = ("gemma4.block_count", "gemma4.attention.shared_kv_layers")
    layers, shared = (decoded(keys[name]) if name in keys else 0 for name in names)
    if not isinstance(layers, int) or not isinstance(shared, int) or not shared <= layers <= MOST:
        return ()  # the certificates will say what is wrong with it
    parts = ("attn_k.", "attn_v.", "attn_k_norm.")
    return tuple(f"blk.{i}.{part}" for i in range(layers - shared, layers) for part in parts)


def shapes(number: Number, layers: int, config: Mapping[str, Any]) -> Shapes:
    """Matrices by config.json."""
    width, inner, heads = map(number, ("hidden_size", "intermediate_size", "num_attention_heads"))
    kinds = config.get("layer_types") or []
    first = number("num_hidden_layers") - (config.get("num_kv_shared_layers") or 0)
    found: Shapes = {"model.embed_tokens.weight": (number("vocab_size"), width)}
    own = config.get("hidden_size_per_layer_input") or 0
    if own:
        rows = number("vocab_size_per_layer_input", number("vocab_size"))
        together = own * number("num_hidden_layers")
        found["model.embed_tokens_per_layer.weight"] = (rows, together)
        found["model.per_layer_model_projection.weight"] = (together, width)
    for i in range(layers):
        block = f"model.layers.{i}"
        if own:
            found[f"{block}.per_layer_input_gate.weight"] = (own, width)
            found[f"{block}.per_layer_projection.weight"] = (width, own)
        attention, mlp = f"{block}.self_attn", f"{block}.mlp"
        kind = kinds[i] if i < len(kinds) else FULL if i % 6 == 5 else SLIDING
        head, keys = _heads(number, config, i, kind)
        wide = inner * (2 if config.get("use_double_wide_mlp") and i >= first else 1)
        found |= {
            f"{attention}.q_proj.weight": (heads * head, width),
            f"{attention}.o_proj.weight": (width, heads * head),
            f"{mlp}.gate_proj.weight": (wide, width),
            f"{mlp}.up_proj.weight": (wide, width),
            f"{mlp}.down_proj.weight": (width, wide),
        }
        if i < first:
            found[f"{attention}.k_proj.weight"] = (keys * head, width)
            if kind == SLIDING or not config.get("attention_k_eq_v"):
                found[f"{attention}.v_proj.weight"] = (keys * head, width)
    return found


def _heads(number: Number, config: Mapping[str, Any], i: int, kind: str) -> tuple[int, int]:
    """Length of a layer's heads, and how many keys it has."""
    own, keys = number("head_dim", 256), number("num_key_value_heads", 4)
    if kind != FULL:
        return own, keys
    said = (config.get("per_layer_config") or {}).get(str(i))
    if said is not None:  # as transformers writes it today
        return said.get("head_dim", own), said.get("num_key_value_heads", keys)
    fewer = config.get("num_global_key_value_heads") if config.get("attention_k_eq_v") else None
    return number("global_head_dim", WIDE), fewer or keys


def fault(config: dict[str, Any]) -> str:
    """Why llama.cpp would compute something else; '' if it does not."""
    if config.get("use_bidirectional_attention") == "all":
        return "every token attends to those behind it (use_bidirectional_attention)"
    if not config.get("sliding_window"):
        return "it has no sliding_window"
    found = config.get("rope_parameters") or {}
    kinds = {FULL: "proportional", SLIDING: "default"}
    for name, wanted in kinds.items():
        said = (found.get(name) or {}).get("rope_type", wanted)
        if said != wanted:
            return f"positions of {name} are {said!r}, llama.cpp computes them {wanted}"
    return ""


def _by_layer(value: Any) -> bool:
    """Numbers of some layers, by their number."""
    return isinstance(value, dict) and all(
        str(i).isdecimal() and isinstance(its, dict) and all(map(known_keys.number, its.values()))
        for i, its in value.items()
    )


FAMILY = Family(
    "Gemma4ForCausalLM",
    "gemma4_text",
    shapes=shapes,
    expected={
        **{key: value for key, value in EXPECTED.items() if key != "partial_rotary_factor"},
        "hidden_act": ACT,
        "hidden_activation": ACT,
        "attention_bias": False,
        "enable_moe_block": False,
    },
    attention=(SLIDING, FULL),
    scalings={"default": (), "proportional": ()},
    more_keys={
        **dict.fromkeys(COUNTS, known_keys.number),
        **dict.fromkeys(
            ("attention_k_eq_v", "enable_moe_block", "use_double_wide_mlp"), known_keys.flag
        ),
        "final_logit_softcapping": known_keys.real,
        **dict.fromkeys(("hidden_activation", "use_bidirectional_attention"), known_keys.word),
        "per_layer_config": _by_layer,
    },
    fault=fault,
    gguf=Gguf("gemma4", config, normal, unread=unread),
)
