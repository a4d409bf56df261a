"""Which config.json speaks of a model that is tuned and served here, by what its family says.

Everything that changes what is computed is carried over by the converter, or refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.bases import families, known_keys
from pipeline.bases.families.family import Family
from pipeline.common.errors import BadInput
from pipeline.common.foreign import listed, shown


def check(folder: Path, config: dict[str, Any]) -> Family:
    """Refuse what would be computed otherwise than the weights mean it, or not at all.

    Raises:
        BadInput: the key and its value.
    """
    family = _family(folder, config)
    _check_values(folder, config, family)
    _check_positions(folder, config, family)
    for name in family.needs:
        if not (folder / name).is_file():
            raise BadInput(
                f"{folder} has no {name}, without which its vocabulary is taken for another kind",
                f"Get {name} of the same model, too.",
            )
    known(folder, "config.json", config, family.keys)
    return family


def check_computed(folder: Path, config: dict[str, Any], family: Family) -> None:
    """Refuse what only several keys together say. The sizes were checked before.

    Raises:
        BadInput: what llama.cpp would compute otherwise.
    """
    if why := family.fault(config):
        raise BadInput(f"{folder}: {why}", "What is trained would not be what is served.")


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


def _family(folder: Path, config: dict[str, Any]) -> Family:
    named = config.get("architectures")
    found = named[0] if isinstance(named, list) and named else named or "none"
    family = families.find(found)
    if family is None:
        raise BadInput(
            f"{folder}: the architecture {shown(found)} is not supported",
            families.refusal(found) or f"Supported: {', '.join(families.supported())}.",
        )
    if config.get("model_type") != family.model_type:  # by this the code is chosen
        raise BadInput(
            f"{folder}: config.json calls the model_type of a {found}"
            f" {shown(repr(config.get('model_type')))}",
            f'It must be "{family.model_type}": get config.json again.',
        )
    return family


def _check_values(folder: Path, config: dict[str, Any], family: Family) -> None:
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
    for key, wanted in family.expected.items():
        if config.get(key) not in (None, wanted):
            raise BadInput(
                f"{folder}: {key} = {shown(repr(config[key]))} in config.json is not supported",
                f"Take a base with {key} = {wanted!r}.",
            )


def _check_positions(folder: Path, config: dict[str, Any], family: Family) -> None:
    """Position scaling and attention are such as the converter carries over."""
    for key, scaling in _scalings(config):
        kinds = [scaling[k] for k in ("rope_type", "type") if scaling.get(k) is not None]
        for kind in kinds:
            if not isinstance(kind, str) or kind not in family.scalings:
                raise BadInput(
                    f"{folder}: its position scaling {shown(repr(kind))} is not supported",
                    f"Supported: {', '.join(family.scalings)}.",
                )
        _, other = known(folder, "config.json", scaling, known_keys.ROPE)
        needed = [k for kind in kinds for k in family.scalings[kind]]
        turned = scaling.get("partial_rotary_factor") not in (None, 1.0)
        if other or (turned and "partial_rotary_factor" in family.expected):
            raise BadInput(
                f"{folder}: {key} = {shown(scaling)} in config.json is not supported",
                f"Supported: {', '.join(family.scalings)}, over the whole head.",
            )
        if lacking := [name for name in needed if not (scaling.get(name) or 0) > 0]:
            raise BadInput(
                f"{folder}: {key} in config.json lacks {lacking[0]}", "Get config.json again."
            )
    layers = config.get("layer_types") or []
    if not isinstance(layers, list) or any(kind not in family.attention for kind in layers):
        raise BadInput(
            f"{folder}: layer_types = {shown(layers)} in config.json is not supported",
            "Take a base whose layers all attend to the whole text (full_attention).",
        )


def _scalings(config: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every description of positions, by the key that it stands under; all are read.

    Some families have one for each kind of attention.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for key in ("rope_scaling", "rope_parameters"):
        value: Any = config.get(key) or {}
        if not isinstance(value, dict):
            value = {"rope_type": str(value)}
        kinds = ("full_attention", "sliding_attention")
        nested = {k: v for k, v in value.items() if k in kinds and isinstance(v, dict)}
        plain = {k: v for k, v in value.items() if k not in nested}
        found += [(key, {**plain, **one}) for one in nested.values() or ({},)]
    return found
