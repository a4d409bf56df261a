"""Read what a Hugging Face directory says of itself, and refuse early what cannot be served.

Only JSON is read and the headers of the weights: no torch, no code out of the directory, never a
pickle. All of it may be a stranger's: sizes are bounded before anything is made of them.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.bases import architecture, known_keys
from pipeline.bases.families.family import Family
from pipeline.common.errors import BadInput
from pipeline.common.foreign import LONGEST, read_object, shown
from pipeline.tools.safetensors_header import header as header

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
DECLARED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)


def check(folder: Path) -> dict[str, Any]:
    """config.json of a directory that this version can tune and serve.

    Raises:
        BadInput: what is missing or not supported, by name.
    """
    config, family = check_words(folder)
    found = {k: v for name in weight_files(folder) for k, v in header(folder / name).items()}
    _check_shapes(folder, config, family, found)
    architecture.check_computed(folder, config, family)
    return config


def check_words(folder: Path) -> tuple[dict[str, Any], Family]:
    """config.json and its family, of a directory whose weights may still be missing.

    Raises:
        BadInput: what is missing or not supported, by name.
    """
    _check_no_adapter(folder)
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise BadInput(
                f"{folder} is not a model directory: it has no {name}",
                "FROM takes a Hugging Face directory: config.json, tokenizer.json, *.safetensors.",
            )
    config = read(folder, "config.json")
    _check_code(folder, config)
    return config, architecture.check(folder, config)


def _check_no_adapter(folder: Path) -> None:
    """A LoRA adapter's folder is no base, though it may have the base's tokenizer and config."""
    if not (folder / "adapter_config.json").is_file():
        return
    if (folder / "model.safetensors").is_file() or list(folder.glob("model-*.safetensors")):
        return  # a base beside which somebody keeps an adapter
    base = read(folder, "adapter_config.json").get("base_model_name_or_path") or "an unnamed base"
    raise BadInput(
        f"{folder} is no base but a LoRA adapter of {shown(base)}",
        f"To tune further, have it merged into its base: FROM merged:./base+{folder}",
    )


def _check_shapes(
    folder: Path, config: dict[str, Any], family: Family, found: dict[str, dict[str, Any]]
) -> None:
    """config.json and weights speak of the same model: a layer too many would start at random."""
    layers = {name.split(".")[2] for name in found if name.startswith("model.layers.")}
    number = partial(_number, folder, config)
    said = number("num_hidden_layers")
    # no more than the weights have: a config may speak of a billion; the first that lacks is named
    for name, shape in family.shapes(number, min(said, len(layers) + 1), config).items():
        stored = found[name]["shape"] if name in found else "absent"
        if stored != list(shape):
            raise BadInput(
                f"{folder}: by config.json {name} has the shape {list(shape)}, in the weights it"
                f" is {stored}",
                "Get config.json and the weights of the same model.",
            )
    if len(layers) != said:
        raise BadInput(
            f"{folder}: config.json speaks of {said} layers, the weights have {len(layers)}",
            "Get config.json and the weights of the same model.",
        )


def _number(folder: Path, config: dict[str, Any], key: str, otherwise: int | None = None) -> int:
    value = otherwise if config.get(key) is None else config[key]
    if not isinstance(value, int) or not known_keys.number(value) or value < 1:
        raise BadInput(
            f"{folder}: config.json has no {key}, or none that is a number",
            "Get config.json again.",
        )
    return value


def read(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of the directory; {} if the file is not there.

    Raises:
        BadInput: not a JSON object, too large, or with values that JSON cannot write again.
    """
    path = folder / name
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            return read_object(file.read(LONGEST + 1))
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}", "Get the file again.") from error


def _check_code(folder: Path, config: dict[str, Any]) -> None:
    for name, value in (
        ("config.json", config),
        ("tokenizer_config.json", read(folder, "tokenizer_config.json")),
    ):
        if "auto_map" in value:
            raise BadInput(
                f"{folder / name} wants code of its own to run (auto_map)",
                "Code out of a model directory is never run: take a base without it.",
            )


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors that hold the weights, as transformers would choose them.

    Raises:
        BadInput: there are none, one is missing, the index and the files contradict each other, or
            there are only pickles.
    """
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    if (folder / INDEX).is_file():
        return _indexed(folder)
    pickles = sorted(f.name for pattern in PICKLES for f in folder.glob(pattern))
    found = (
        f"only {shown(pickles[0])}, and a pickle can run code"
        if pickles
        else "no model.safetensors"
    )
    raise BadInput(
        f"{folder} has no weights that are read here: {found}", "Take the base as safetensors."
    )


def _indexed(folder: Path) -> list[str]:
    """The files that the index names: each holds the tensors that it says, and no other."""
    index = read(folder, INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise BadInput(f"{folder / INDEX} names no weights", "Get the file again.")
    for name in index.values():
        safe = isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")
        if not safe or not (folder / name).is_file():
            raise BadInput(
                f"{folder} lacks {shown(name)}, which {INDEX} names", "Get the missing file."
            )
    files = sorted(set(index.values()))
    held = {(tensor, name) for name in files for tensor in header(folder / name)}
    if wrong := sorted(held ^ set(index.items())):
        tensor, name = wrong[0]
        where = "holds a" if (tensor, name) in held else "has no"
        raise BadInput(
            f"{folder}: {shown(name)} {where} tensor {shown(tensor)}, {INDEX} says otherwise",
            "Get the index and the weights of the same model.",
        )
    return files


def parameters(folder: Path, config: dict[str, Any]) -> int:
    """Number of weights; an output layer that is the input embedding counts once."""
    tensors = {k: v for name in weight_files(folder) for k, v in header(folder / name).items()}
    if config.get("tie_word_embeddings") and "model.embed_tokens.weight" in tensors:
        tensors.pop("lm_head.weight", None)
    return sum(math.prod(tensor["shape"]) for tensor in tensors.values())


def declared(folder: Path) -> list[str]:
    """Names of the files that decide what the base is; no README, no licence."""
    files = weight_files(folder)
    index = [INDEX] if len(files) > 1 else []
    return [n for n in DECLARED if (folder / n).is_file()] + index + files
