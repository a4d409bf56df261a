"""A tiny random model of a base's configuration, asked for a token: converter and server know it.

Its layers, heads and constants are the base's; sizes and vocabulary are as small as they may be.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.bases import checkpoint
from pipeline.bases.reference import Reference
from pipeline.common.errors import PipelineError
from pipeline.common.names import LETTERS
from pipeline.common.values import digest_of_file, write_json
from pipeline.stages.fetching import from_gguf, hollow, outlines, served_base
from pipeline.tools import smallest
from pipeline.tools.gguf_header import Entry, header, padding
from pipeline.tools.gguf_layout import layout
from pipeline.tools.gguf_values import texts
from pipeline.tools.ollama import Ollama

LAYERS = 8  # at most: enough for every pattern of layers (a full one after each five with a window)
SHARED = 2  # of them, which take the keys of others


def gives_a_token(base: Reference, ollama: Ollama) -> bool:
    """Whether this Ollama computes a tiny model of the base's family. Nothing of it stays.

    Raises:
        ToolFailed: the converter does not know it, or Ollama cannot load it.
    """
    name = f"specialist-doctor:{''.join(secrets.choice(LETTERS) for _ in range(8))}"
    with TemporaryDirectory() as folder:
        file = Path(folder) / "likeness.gguf"
        write(base, file)
        digest = digest_of_file(file)
        ollama.upload(file, digest, lambda progress: None)
        try:
            ollama.create(name, digest, renders=served_base.forced(base), parameters=_SHORT)
            reply = ollama.chat(name, [{"role": "user", "content": "Hi"}], limit=1)
            ollama.unload(name)
        finally:
            with suppress(PipelineError):
                ollama.delete(name)
    return reply.answer_tokens > 0


_SHORT = {"num_ctx": 256}


def write(base: Reference, path: Path) -> None:
    """Write it as a GGUF, with the smallest model's vocabulary.

    Raises:
        ToolFailed: transformers or the converter makes nothing of such a configuration.
    """
    scratch = path.parent
    read = from_gguf.config if base.format == "gguf" else checkpoint.check
    plain, bare = scratch / "plain", scratch / "hollow"
    plain.mkdir()
    write_json(plain / "config.json", shrunk(read(base.path)))
    smallest.write_tokenizer(plain / "tokenizer.json")
    hollow.write(plain, bare)
    keys = scratch / "keys.gguf"
    found = outlines.write_outline(
        bare, keys, scratch / "outline.json", name="likeness", vocabulary=False
    )
    smallest.write(scratch / "smallest.gguf")
    words = layout(scratch / "smallest.gguf").keys
    front = {n: raw for n, raw in words.items() if n.startswith("tokenizer.")}
    front["tokenizer.ggml.merges"] = texts(["a b"])  # Gemma 4's is no vocabulary without
    _write(path, {**layout(keys).keys, **front}, found.tensors)


def shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """A config.json of the same family, of two heads and few layers."""
    layers = int(config["num_hidden_layers"])
    few = min(layers, LAYERS)
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    small = {key: _cut(value, layers, few) for key, value in config.items()}
    rows = len(smallest.pieces())
    small |= {
        **{"num_hidden_layers": few, "num_attention_heads": 2, "num_key_value_heads": 1},
        **{"hidden_size": 2 * head, "intermediate_size": 4 * head, "vocab_size": rows},
        **{"bos_token_id": smallest.BOS, "eos_token_id": smallest.END, "pad_token_id": None},
        **({"head_dim": head} if "head_dim" in config else {}),
        **{key: rows for key in ("vocab_size_per_layer_input",) if key in config},
        **{key: 1 for key in ("num_global_key_value_heads",) if config.get(key)},
        **{key: SHARED for key in ("num_kv_shared_layers",) if config.get(key)},
    }
    if by_layer := config.get("per_layer_config"):
        wide = {i: its for i, its in by_layer.items() if int(i) < few}
        last = by_layer.get(str(layers - 1))
        wide |= {str(few - 1): last} if last else {}
        small["per_layer_config"] = {
            i: {**its, **({"num_key_value_heads": 1} if "num_key_value_heads" in its else {})}
            for i, its in wide.items()
        }
    return small


def _cut(value: Any, layers: int, few: int) -> Any:
    """Of a list that has an item for each layer: the first ones, and the last."""
    each = isinstance(value, list) and len(value) == layers
    return [*value[: few - 1], value[-1]] if each else value


def _write(path: Path, keys: dict[str, bytes], tensors: Any) -> None:
    """Random weights of an outline's shapes."""
    import numpy as np

    random = np.random.default_rng(0)
    entries = [Entry(t.name, t.kind, t.shape) for t in tensors]
    with path.open("wb") as file:
        file.write(header(keys, entries))
        for tensor, entry in zip(tensors, entries, strict=True):
            if tensor.source is None:
                values = np.array(tensor.values)
            else:
                values = random.normal(1.0 if len(tensor.shape) == 1 else 0.0, 0.02, tensor.shape)
            kind = np.float16 if tensor.kind == "F16" else np.float32
            file.write(values.astype(kind).tobytes() + bytes(padding(entry.size)))
