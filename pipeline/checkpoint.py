"""Read what a Hugging Face directory says of itself, and refuse early what cannot be served.

Only JSON is read and the headers of the weights (huggingface/safetensors: 8 bytes of length, then
JSON): no torch, no code out of the directory, never a pickle.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput

ARCHITECTURES = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Those that were seen to go through: a test takes each to a GGUF that computes the same."""
ROPE = ("default", "linear", "llama3")  # what the converter is known to carry over
EXPECTED = {"hidden_act": "silu", "use_sliding_window": False}  # what llama.cpp computes, unasked
DTYPES = ("F32", "F16", "BF16")
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
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise BadInput(
                f"{folder} is not a model directory: it has no {name}",
                "FROM takes a Hugging Face directory: config.json, tokenizer.json, *.safetensors.",
            )
    config = read(folder, "config.json")
    _check_code(folder, config)
    _check_architecture(folder, config)
    for name in weight_files(folder):
        header(folder / name)
    return config


def read(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of the directory; {} if the file is not there.

    Raises:
        BadInput: not a JSON object.
    """
    path = folder / name
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}", "Get the file again.") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} is not a JSON object", "Get the file again.")
    return value


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


def _check_architecture(folder: Path, config: dict[str, Any]) -> None:
    found = (config.get("architectures") or ["none"])[0]
    if found not in ARCHITECTURES:
        raise BadInput(
            f"{folder}: the architecture {found} is not supported",
            f"Supported: {', '.join(ARCHITECTURES)}.",
        )
    if "quantization_config" in config:
        method = (config["quantization_config"] or {}).get("quant_method", "unknown")
        raise BadInput(
            f"{folder}: the weights are quantized ({method})",
            "Take the 16-bit version of this base: quantizing is the last step, not the first.",
        )
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    rope = scaling.get("rope_type") or scaling.get("type") or "default"
    if rope not in ROPE:
        raise BadInput(
            f"{folder}: its position scaling {rope!r} is not supported",
            f"Supported: {', '.join(ROPE)}.",
        )
    if not isinstance(config.get("max_position_embeddings"), int):
        raise BadInput(
            f"{folder}: config.json does not say how long a context may be",
            "Put max_position_embeddings into it, as a number of tokens.",
        )
    for key, wanted in EXPECTED.items():
        if config.get(key, wanted) != wanted:
            raise BadInput(
                f"{folder}: {key} = {config[key]!r} in config.json is not supported",
                f"Take a base with {key} = {wanted!r}.",
            )


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors that hold the weights, as transformers would choose them.

    Raises:
        BadInput: there are none, one is missing, or there are only pickles.
    """
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    index = read(folder, "model.safetensors.index.json").get("weight_map")
    names = sorted({str(name) for name in index.values()}) if isinstance(index, dict) else []
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise BadInput(
                f"{folder} lacks {name}, which model.safetensors.index.json names",
                "Get the missing file.",
            )
    if not names:
        pickles = sorted(f.name for pattern in PICKLES for f in folder.glob(pattern))
        found = (
            f"only {pickles[0]}, and a pickle can run code" if pickles else "no model.safetensors"
        )
        raise BadInput(
            f"{folder} has no weights that are read here: {found}",
            "Take the base as safetensors.",
        )
    return names


def header(path: Path) -> dict[str, dict[str, Any]]:
    """Tensors of a safetensors file by name: dtype, shape, data_offsets.

    Raises:
        BadInput: no safetensors, cut short, or weights that are not floats of 16 or 32 bits.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 100_000_000:  # the format's own bound
                raise ValueError("its header is too long")
            found: dict[str, dict[str, Any]] = json.loads(file.read(length))
        found.pop("__metadata__", None)
        end = max(tensor["data_offsets"][1] for tensor in found.values())
        if path.stat().st_size != 8 + length + end:
            raise ValueError(f"{8 + length + end} bytes expected, {path.stat().st_size} found")
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise BadInput(
            f"{path} is damaged or no safetensors file: {error}",
            "Get the file again (a pointer of Git LFS is not the file itself).",
        ) from error
    for name, tensor in found.items():
        if tensor["dtype"] not in DTYPES:
            raise BadInput(
                f"{path}: {name} is stored as {tensor['dtype']}",
                f"Take a base whose weights are {', '.join(DTYPES)}.",
            )
    return found


def parameters(folder: Path, config: dict[str, Any]) -> int:
    """Number of weights; an output layer that is the input embedding counts once."""
    tensors = {k: v for name in weight_files(folder) for k, v in header(folder / name).items()}
    if config.get("tie_word_embeddings") and "model.embed_tokens.weight" in tensors:
        tensors.pop("lm_head.weight", None)
    return sum(math.prod(tensor["shape"]) for tensor in tensors.values())


def declared(folder: Path) -> list[str]:
    """Names of the files that decide what the base is; no README, no licence."""
    index = ["model.safetensors.index.json"] if len(weight_files(folder)) > 1 else []
    return [n for n in DECLARED if (folder / n).is_file()] + index + weight_files(folder)
