"""Which config.json speaks of a model that is tuned and served here: the families, by name.

Everything that changes what is computed is carried over by the converter, or refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.bases import known_keys
from pipeline.common.errors import BadInput
from pipeline.common.foreign import listed, shown

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
"""Those that were seen to go through: a test takes each to a GGUF that computes the same. By the
`model_type` transformers chooses the code."""
ROPE: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        *("factor", "low_freq_factor", "high_freq_factor"),
        "original_max_position_embeddings",
    ),
}
"""Position scalings that the converter is known to carry over, and the numbers that each needs."""
# what llama.cpp computes, unasked
EXPECTED = {"hidden_act": "silu", "use_sliding_window": False, "partial_rotary_factor": 1.0}


def check(folder: Path, config: dict[str, Any]) -> None:
    """Refuse what would be computed otherwise than the weights mean it, or not at all.

    Raises:
        BadInput: the key and its value.
    """
    _check_family(folder, config)
    _check_positions(folder, config)
    known(folder, "config.json", config, known_keys.CONFIG)


def known(
    folder: Path, name: str, value: dict[str, Any], keys: Mapping[str, known_keys.Fits]
) -> tuple[dict[str, Any], str]:
    """What of a JSON file goes on, and a sentence about what does not; '' where all does.

    Raises:
        BadInput: a key that holds something else than it is meant to.
    """
    try:
        kept, others = known_keys.parted(value, keys)
    except ValueError as error:
        raise BadInput(
            f"{folder / name}: {error} is not what this key is for", "Get the file again."
        ) from error
    return kept, f"{name}: left out, as not known here: {listed(others)}" if others else ""


def _check_family(folder: Path, config: dict[str, Any]) -> None:
    named = config.get("architectures")
    found = named[0] if isinstance(named, list) and named else named or "none"
    if not isinstance(found, str) or found not in ARCHITECTURES:
        raise BadInput(
            f"{folder}: the architecture {shown(found)} is not supported",
            f"Supported: {', '.join(ARCHITECTURES)}.",
        )
    if config.get("model_type") != ARCHITECTURES[found]:  # by this the code is chosen
        raise BadInput(
            f"{folder}: config.json calls the model_type of a {found}"
            f" {shown(repr(config.get('model_type')))}",
            f'It must be "{ARCHITECTURES[found]}": get config.json again.',
        )
    if "quantization_config" in config:
        described = config["quantization_config"]
        method = described.get("quant_method") if isinstance(described, dict) else described
        raise BadInput(
            f"{folder}: the weights are quantized ({shown(method)})",
            "Take the 16-bit version of this base: quantizing is the last step, not the first.",
        )
    context = config.get("max_position_embeddings")
    if not isinstance(context, int) or not known_keys.number(context) or context < 1:
        raise BadInput(
            f"{folder}: config.json does not say how long a context may be",
            "Put max_position_embeddings into it, as a number of tokens.",
        )
    for key, wanted in EXPECTED.items():
        if config.get(key) not in (None, wanted):
            raise BadInput(
                f"{folder}: {key} = {shown(repr(config[key]))} in config.json is not supported",
                f"Take a base with {key} = {wanted!r}.",
            )


def _check_positions(folder: Path, config: dict[str, Any]) -> None:
    """Position scaling and attention are such as the converter carries over."""
    for key in ("rope_scaling", "rope_parameters"):  # both are read where both are there
        scaling: Any = config.get(key) or {}
        if not isinstance(scaling, dict):
            scaling = {"rope_type": str(scaling)}
        kinds = [scaling[k] for k in ("rope_type", "type") if scaling.get(k) is not None]
        for kind in kinds:
            if not isinstance(kind, str) or kind not in ROPE:
                raise BadInput(
                    f"{folder}: its position scaling {shown(repr(kind))} is not supported",
                    f"Supported: {', '.join(ROPE)}.",
                )
        _, other = known(folder, "config.json", scaling, known_keys.ROPE)
        needed = [k for kind in kinds for k in ROPE[kind]]
        if other or scaling.get("partial_rotary_factor") not in (None, 1.0):
            raise BadInput(
                f"{folder}: {key} = {shown(scaling)} in config.json is not supported",
                f"Supported: {', '.join(ROPE)}, over the whole head.",
            )
        if lacking := [name for name in needed if not (scaling.get(name) or 0) > 0]:
            raise BadInput(
                f"{folder}: {key} in config.json lacks {lacking[0]}", "Get config.json again."
            )
    layers = config.get("layer_types") or []
    if not isinstance(layers, list) or any(kind != "full_attention" for kind in layers):
        raise BadInput(
            f"{folder}: layer_types = {shown(layers)} in config.json is not supported",
            "Take a base whose layers all attend to the whole text (full_attention).",
        )
