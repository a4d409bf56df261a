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
_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
DTYPES = tuple(_BYTES)
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
    found = {k: v for name in weight_files(folder) for k, v in header(folder / name).items()}
    _check_shapes(folder, config, found)
    return config


def _check_shapes(folder: Path, config: dict[str, Any], found: dict[str, dict[str, Any]]) -> None:
    """config.json and weights speak of the same model: a layer too many would start at random."""
    expected = _shapes(folder, config)
    for name, shape in expected.items():
        stored = found[name]["shape"] if name in found else "absent"
        if stored != list(shape):
            raise BadInput(
                f"{folder}: by config.json {name} has the shape {list(shape)}, in the weights it"
                f" is {stored}",
                "Get config.json and the weights of the same model.",
            )
    layers = {name.split(".")[2] for name in found if name.startswith("model.layers.")}
    if len(layers) != config["num_hidden_layers"]:
        raise BadInput(
            f"{folder}: config.json speaks of {config['num_hidden_layers']} layers, the weights"
            f" have {len(layers)}",
            "Get config.json and the weights of the same model.",
        )


def _shapes(folder: Path, config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Shapes of the matrices of the families in ARCHITECTURES, which name them alike."""

    def number(key: str, otherwise: int | None = None) -> int:
        value = config.get(key, otherwise)
        if not isinstance(value, int) or value < 1:
            raise BadInput(
                f"{folder}: config.json has no {key}, or none that is a number",
                "Get config.json again.",
            )
        return value

    width, inner, heads = map(number, ("hidden_size", "intermediate_size", "num_attention_heads"))
    keys = number("num_key_value_heads", heads)
    head = number("head_dim", width // heads) if config.get("head_dim") else width // heads
    shapes = {"model.embed_tokens.weight": (number("vocab_size"), width)}
    for i in range(number("num_hidden_layers")):
        attention, mlp = f"model.layers.{i}.self_attn", f"model.layers.{i}.mlp"
        shapes |= {
            f"{attention}.q_proj.weight": (heads * head, width),
            f"{attention}.k_proj.weight": (keys * head, width),
            f"{attention}.v_proj.weight": (keys * head, width),
            f"{attention}.o_proj.weight": (width, heads * head),
            f"{mlp}.gate_proj.weight": (inner, width),
            f"{mlp}.up_proj.weight": (inner, width),
            f"{mlp}.down_proj.weight": (width, inner),
        }
    return shapes


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
    except (ValueError, RecursionError) as error:
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
    named = config.get("architectures")
    found = named[0] if isinstance(named, list) and named else named or "none"
    if found not in ARCHITECTURES:
        raise BadInput(
            f"{folder}: the architecture {found} is not supported",
            f"Supported: {', '.join(ARCHITECTURES)}.",
        )
    if "quantization_config" in config:
        described = config["quantization_config"]
        method = described.get("quant_method") if isinstance(described, dict) else described
        raise BadInput(
            f"{folder}: the weights are quantized ({method})",
            "Take the 16-bit version of this base: quantizing is the last step, not the first.",
        )
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(scaling, dict):
        scaling = {"rope_type": str(scaling)}
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
        kinds = {name: str(tensor["dtype"]) for name, tensor in found.items()}
        for name, tensor in found.items():
            start, stop = tensor["data_offsets"]
            size = _BYTES.get(kinds[name])
            if size and stop - start != size * math.prod(tensor["shape"]):
                raise ValueError(f"{name} has {stop - start} bytes for {tensor['shape']}")
        end = max(tensor["data_offsets"][1] for tensor in found.values())
        if path.stat().st_size != 8 + length + end:
            raise ValueError(f"{8 + length + end} bytes expected, {path.stat().st_size} found")
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise BadInput(
            f"{path} is damaged or no safetensors file: {error}",
            "Get the file again (a pointer of Git LFS is not the file itself).",
        ) from error
    for name, kind in kinds.items():
        if kind not in DTYPES:
            raise BadInput(
                f"{path}: {name} is stored as {kind}",
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
