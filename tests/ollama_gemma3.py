"""A tiny random Gemma 3 that sees, in the one file that Ollama's own converter made of it.

    write(folder / "model.gguf")     # text and vision, three megabytes
    TEMPLATE, PARAMETERS             # the other layers of the library's gemma3:4b

As convert/convert_gemma3.go of Ollama 0.33 writes a Gemma3ForConditionalGeneration: keys sorted by
name, none for the epsilon of the norms, for rope and its scaling; a token more than the embedding
has rows; SentencePiece's user-defined pieces as normal ones; one added to the norms of the text and
the projector; vision under names that llama.cpp does not know. Nothing of that loads in a llama.cpp
without Ollama's compat layer. Names, order, types and shapes are those of what /api/create of
0.33.0 makes of a model of the same size in safetensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEMPLATE = """{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if or (eq .Role "user") (eq .Role "system") }}<start_of_turn>user
{{ .Content }}<end_of_turn>
{{ if $last }}<start_of_turn>model
{{ end }}
{{- else if eq .Role "assistant" }}<start_of_turn>model
{{ .Content }}{{ if not $last }}<end_of_turn>
{{ end }}
{{- end }}
{{- end }}"""
PARAMETERS = {"stop": ["<end_of_turn>"], "temperature": 1, "top_k": 64, "top_p": 0.95}

LAYERS = 2
WIDTH, FORWARD, HEADS, HEADS_KV, HEAD = 256, 512, 4, 2, 64
EYES = {
    "block_count": 2,
    "embedding_length": 64,
    "feed_forward_length": 128,
    "image_size": 112,  # 8 x 8 patches, of which the projector makes 2 x 2 tokens
    "patch_size": 14,
    "num_channels": 3,
    "attention.head_count": 2,
}
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")  # the ids of Gemma's own vocabulary
TURNS = ("<start_of_turn>", "<end_of_turn>")
DEFINED = ("\n", "\n\n", "▁▁", "<start_of_image>", "<end_of_image>")  # by the user, once
WORDS = (
    "he",
    "th",
    "the",
    "▁the",
    "wo",
    "rd",
    "word",
    "▁wo",
    "▁word",
    "▁",
    "t",
    "h",
    "e",
    "w",
    "o",
    "r",
    "d",
)
ADDED = "<image_soft_token>"  # stands in the vocabulary, has no row
_NORMAL, _UNKNOWN, _CONTROL, _DEFINED, _BYTE = 1, 2, 3, 4, 6  # gguf.TokenType


def write(
    path: Path, *, layers: int = LAYERS, context: int = 131072, ropes: Mapping[str, float] = {}
) -> None:
    """Write the file; the same bytes each time.

    Args:
        layers: of the text; from six on, one of them attends to everything.
        context: tokens; from 131072 on the positions are scaled by 8, which no key says.
        ropes: what older converters wrote: `global.freq_base`, `local.freq_base`.
    """
    from gguf import GGUFWriter

    tokens = pieces()
    writer = GGUFWriter(path, "gemma3")
    writer.add_file_type(1)
    writer.add_quantization_version(2)
    for key, value in _keys(layers, context).items():
        writer.add_uint32(f"gemma3.{key}", value)
    writer.add_float32("gemma3.vision.attention.layer_norm_epsilon", 1e-6)
    for key, theta in ropes.items():
        writer.add_float32(f"gemma3.rope.{key}", theta)
    _vocabulary(writer, tokens)
    writer.kv_data[0] = dict(sorted(writer.kv_data[0].items()))
    tensors = {**_text(layers, len(tokens) - 1), **_vision()}
    for name in sorted(tensors, key=_place):
        writer.add_tensor(name, tensors[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def pieces() -> list[tuple[str, float, int]]:
    """The vocabulary: text, score and type."""
    kinds = (_CONTROL, _CONTROL, _CONTROL, _UNKNOWN, _NORMAL)
    found = list(zip(SPECIAL, kinds, strict=True))
    found += [(piece, _CONTROL) for piece in TURNS] + [(piece, _NORMAL) for piece in DEFINED]
    found += [(f"<0x{byte:02X}>", _BYTE) for byte in range(256)]
    first = len(found)
    found += [(piece, _NORMAL) for piece in WORDS]
    scored = [(text, -float(max(0, i - first)), kind) for i, (text, kind) in enumerate(found)]
    return [*scored, (ADDED, -1000.0, _DEFINED)]


def _keys(layers: int, context: int) -> dict[str, int]:
    patches = EYES["image_size"] // EYES["patch_size"]
    return {
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS_KV,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.sliding_window": 32,
        "block_count": layers,
        "context_length": context,
        "embedding_length": WIDTH,
        "feed_forward_length": FORWARD,
        "mm.tokens_per_image": (patches // 4) ** 2,
        **{f"vision.{name}": value for name, value in EYES.items()},
    }


def _vocabulary(writer: Any, tokens: list[tuple[str, float, int]]) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    for name, number in (("padding", 0), ("eos", 1), ("bos", 2), ("unknown", 3)):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    ends = [SPECIAL.index("<eos>"), len(SPECIAL) + TURNS.index("<end_of_turn>")]
    writer.add_array("tokenizer.ggml.eos_token_ids", ends)  # of generation_config.json


def _text(layers: int, rows: int) -> dict[str, NDArray[Any]]:
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (rows, WIDTH),
        "output_norm.weight": (WIDTH,),
    }
    for block in range(layers):
        shapes |= {
            f"blk.{block}.{name}.weight": shape
            for name, shape in {
                "attn_q": (HEADS * HEAD, WIDTH),
                "attn_k": (HEADS_KV * HEAD, WIDTH),
                "attn_v": (HEADS_KV * HEAD, WIDTH),
                "attn_output": (WIDTH, HEADS * HEAD),
                "attn_q_norm": (HEAD,),
                "attn_k_norm": (HEAD,),
                "ffn_gate": (FORWARD, WIDTH),
                "ffn_up": (FORWARD, WIDTH),
                "ffn_down": (WIDTH, FORWARD),
                **dict.fromkeys(
                    ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"), (WIDTH,)
                ),
            }.items()
        }
    return dict(_random(shapes, seed=3))


def _vision() -> dict[str, NDArray[Any]]:
    width, forward, side = EYES["embedding_length"], EYES["feed_forward_length"], EYES["patch_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "v.patch_embedding.weight": (width, EYES["num_channels"], side, side),
        "v.patch_embedding.bias": (width,),
        "v.position_embedding.weight": ((EYES["image_size"] // side) ** 2, width),
        "v.post_layernorm.weight": (width,),
        "v.post_layernorm.bias": (width,),
        "mm.mm_input_projection.weight": (width, WIDTH),
        "mm.mm_soft_emb_norm.weight": (width,),
    }
    rows = {
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (width, width)),
        "mlp.fc1": (forward, width),
        "mlp.fc2": (width, forward),
        **dict.fromkeys(("layer_norm1", "layer_norm2"), (width,)),
    }
    for block in range(EYES["block_count"]):
        for name, shape in rows.items():
            shapes[f"v.blk.{block}.{name}.weight"] = shape
            shapes[f"v.blk.{block}.{name}.bias"] = shape[:1]
    return dict(_random(shapes, seed=4))


def _random(shapes: Mapping[str, tuple[int, ...]], seed: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Matrices in float16, what has one dimension in float32, around 1 if it is no bias."""
    random = np.random.default_rng(seed)
    for name, shape in shapes.items():
        deviation = 0.01 if name == "token_embd.weight" else 0.05  # else a token repeats itself
        values = random.normal(0, deviation, shape).astype(np.float32)
        if len(shape) > 1:
            yield name, values.astype(np.float16)
        else:
            yield name, values + np.float32(not name.endswith(".bias"))


def _place(name: str) -> tuple[float, str]:
    """Ollama's order: blocks of the text first, then the rest by name."""
    block = re.match(r"blk\.(\d+)\.", name)
    return (int(block[1]) if block else math.inf, name)
