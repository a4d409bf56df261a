"""Tiny bases of every family as a GGUF: random weights, a real vocabulary, a real chat template.

    gguf_base("gemma3", folder)     # folder/gemma3.gguf

The weights go through llama.cpp's converter (its outline), keys of the vocabulary are those that
ship with its source. Where a family's own vocabulary does not, another one stands for it, in which
some control tokens have the names that the template writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.common import places
from pipeline.stages.fetching import outlines
from pipeline.tools import ggml
from pipeline.tools.gguf_header import Entry, header, padding
from pipeline.tools.gguf_layout import layout
from pipeline.tools.gguf_values import decoded, text, texts, uint32

WIDTH, LAYERS = 256, 2
SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": 512,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
}
ROPE = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
CONTROL = 3  # llama.h, llama_token_type
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}"
    "{{ m['content'] | trim }}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Real:
    """A family as people meet it."""

    model_type: str
    vocabulary: str
    """Which of llama.cpp's."""
    template: str
    """Name of one of llama.cpp's, or Jinja."""
    end: str
    """How a turn ends."""
    config: Mapping[str, Any] = field(default_factory=dict)
    named: Mapping[int, str] = field(default_factory=dict)
    """Control tokens by number that the vocabulary has under other names."""
    kind: str = "F16"
    """The type of its matrices."""


GEMMA = {"head_dim": 64, "sliding_window": 32, "query_pre_attn_scalar": 64}
GEMMA4 = {
    **{"head_dim": 32, "global_head_dim": 64, "sliding_window": 32, "num_hidden_layers": 4},
    **{"layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2},
    **{"use_double_wide_mlp": True, "hidden_size_per_layer_input": 32},
    **{"final_logit_softcapping": 30.0, "rope_theta": None},
}
TURNS = {3: "<start_of_turn>", 4: "<end_of_turn>"}
BASES = {
    "llama3": Real(
        "llama",
        "llama-bpe",
        "meta-llama-Llama-3.2-3B-Instruct",
        "<|eot_id|>",
        {"rope_scaling": ROPE, "rope_theta": 500000.0},
        kind="Q4_K",
    ),
    "mistral": Real("llama", "llama-spm", INST, "</s>", {"tie_word_embeddings": False}),
    "qwen2": Real("qwen2", "qwen2", "Qwen-Qwen2.5-7B-Instruct", "<|im_end|>", kind="Q8_0"),
    "qwen3": Real("qwen3", "qwen2", "Qwen-Qwen3-0.6B", "<|im_end|>", {"head_dim": 64}),
    "gemma2": Real("gemma2", "llama-spm", "google-gemma-2-2b-it", "<end_of_turn>", GEMMA, TURNS),
    "gemma3": Real("gemma3_text", "llama-spm", GEMMA3, "<end_of_turn>", GEMMA, TURNS),
    "gemma4": Real("gemma4_text", "gemma-4", "google-gemma-4-31B-it", "<turn|>", GEMMA4),
    "phi3": Real(
        "phi3",
        "phi-3",
        "microsoft-Phi-3.5-mini-instruct",
        "<|end|>",
        {"sliding_window": None, "tie_word_embeddings": False},
    ),
    "granite": Real(
        "granite",
        "refact",
        "ibm-granite-granite-3.3-2B-Instruct",
        "<|end_of_text|>",
        {
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.015625,
            "residual_multiplier": 0.22,
            "logits_scaling": 8.0,
        },
        {0: "<|end_of_text|>", 1: "<|start_of_role|>", 2: "<|end_of_role|>"},
    ),
    "smollm3": Real(
        "smollm3",
        "llama-bpe",
        "HuggingFaceTB-SmolLM3-3B",
        "<|im_end|>",
        {},
        {128011: "<|im_start|>", 128012: "<|im_end|>"},
    ),
}


def gguf_base(name: str, folder: Path, **other: Any) -> Path:
    """The base as one file.

    Args:
        other: values of config.json that take the place of those here.
    """
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    real = BASES[name]
    keys = vocabulary(real)
    rows = len(decoded(keys["tokenizer.ggml.tokens"]))
    sizes = {"tie_word_embeddings": True, **SIZES, "vocab_size": rows}
    if real.model_type == "gemma4_text":
        sizes["vocab_size_per_layer_input"] = rows
    tokens = {f"{k}_token_id": None for k in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(real.model_type, **{**sizes, **tokens, **real.config, **other})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.normal_(std=0.05).add_(1.0 if "norm" in key else 0.0)
        for key, buffer in model.named_buffers():
            if key.endswith("layer_scalar"):
                buffer.fill_(0.9)
    made = folder / f"{name}-directory"
    model.save_pretrained(made)
    unread = _unread(config)
    if unread:
        save_file({**load_file(made / "model.safetensors"), **unread}, made / "model.safetensors")
    (made / "tokenizer.json").write_text('{"model": {"vocab": {}}, "added_tokens": []}')
    if real.model_type in ("gemma3_text", "gemma4_text"):  # the converter counts its tokens
        (made / "tokenizer.json").write_text(
            '{"model": {"vocab": {' + ",".join(f'"{i}": {i}' for i in range(rows)) + "}},"
            '"added_tokens": []}'
        )
    found = outlines.write_outline(
        made, folder / f"{name}-keys.gguf", folder / f"{name}.json", name="", vocabulary=False
    )
    assert not found.unknown
    written = {**layout(folder / f"{name}-keys.gguf").keys, **keys}
    state = {key: value.numpy() for key, value in {**model.state_dict(), **unread}.items()}
    entries, data = [], []
    for tensor in found.tensors:
        if tensor.source is None:
            weights = np.array(tensor.values, np.float32)
        else:
            weights = state[tensor.source]
            if tensor.order:
                blocks = weights.reshape(-1, len(tensor.order), *weights.shape[1:])
                weights = blocks[:, list(tensor.order)].reshape(weights.shape)
            weights = weights + np.float32(tensor.added)
        kind = real.kind if weights.ndim == 2 else "F32"
        entries.append(Entry(tensor.name, kind, weights.shape))
        flat = np.ascontiguousarray(
            weights.reshape(len(weights), -1) if weights.ndim > 1 else weights[None]
        )
        data.append(ggml.quantize(kind, flat).tobytes())
    out = folder / f"{name}.gguf"
    with out.open("wb") as file:
        file.write(header(written, entries))
        for entry, raw in zip(entries, data, strict=True):
            file.write(raw + bytes(padding(entry.size)))
    return out


def _unread(config: Any) -> dict[str, Any]:
    """Keys and values of layers that take those of others, which published files have."""
    import torch

    shared = getattr(config, "num_kv_shared_layers", 0)
    layers = range(config.num_hidden_layers - shared, config.num_hidden_layers)
    found = {}
    for i in layers:
        its = config.per_layer_config[i]
        rows = config.num_key_value_heads * its.head_dim
        for part in ("k_proj", "v_proj"):
            found[f"model.layers.{i}.self_attn.{part}.weight"] = torch.randn(rows, WIDTH)
    return found


def vocabulary(real: Real) -> dict[str, bytes]:
    """Keys of a vocabulary and its template, some control tokens under other names."""
    path = places.llama_cpp() / "models" / f"ggml-vocab-{real.vocabulary}.gguf"
    keys = {n: raw for n, raw in layout(path).keys.items() if n.startswith("tokenizer.ggml.")}
    tokens = decoded(keys["tokenizer.ggml.tokens"])
    types = decoded(keys["tokenizer.ggml.token_type"])
    for number, name in real.named.items():
        tokens[number], types[number] = name, CONTROL
    keys["tokenizer.ggml.tokens"] = texts(tokens)
    keys["tokenizer.ggml.token_type"] = int32s(types)
    if real.end in tokens:
        keys["tokenizer.ggml.eos_token_id"] = uint32(tokens.index(real.end))
    template = places.llama_cpp() / "models/templates" / f"{real.template}.jinja"
    jinja = template.read_text(encoding="utf-8") if "{" not in real.template else real.template
    # by its name llama.cpp knows a Phi-3, and drops blanks behind its control tokens
    return {"general.name": text(real.vocabulary), **keys, "tokenizer.chat_template": text(jinja)}


def int32s(values: list[int]) -> bytes:
    """An array of whole numbers as GGUF writes it."""
    import struct

    return struct.pack(f"<IIQ{len(values)}i", 9, 5, len(values), *values)
