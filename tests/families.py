"""Tiny random models of every family that is packed in a stream, with an adapter for each.

    family_directory("gemma2", folder)      # config, vocabulary, some million weights
    write_adapter(folder, base)             # LoRA on every linear module, as PEFT writes it

The vocabulary is a SentencePiece model of some bytes and words: the converter takes it for each.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tiny import write_tokenizer

LINEAR = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    *("qkv_proj", "gate_up_proj"),
)
ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GEMMA = {"head_dim": 64, "sliding_window": 32, "query_pre_attn_scalar": 64}
GEMMA4 = {
    **{
        "head_dim": 32,
        "global_head_dim": 64,
        "sliding_window": 32,
        "hidden_size_per_layer_input": 16,
    },
    **{"num_kv_shared_layers": 2, "use_double_wide_mlp": True, "final_logit_softcapping": 30.0},
}
GEMMA4_LARGE = {
    **{"head_dim": 32, "global_head_dim": 64, "sliding_window": 32, "attention_k_eq_v": True},
    **{"num_global_key_value_heads": 1, "hidden_size_per_layer_input": 0},
}
# Name: model type, dtype of the weights, files, what else stands in the config.
FAMILIES: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "llama tied": ("llama", "bfloat16", 1, {"tie_word_embeddings": True}),
    "llama untied, sharded": ("llama", "bfloat16", 3, {"tie_word_embeddings": False}),
    "llama, float16": ("llama", "float16", 1, {"tie_word_embeddings": False}),
    "llama, float32": ("llama", "float32", 1, {"tie_word_embeddings": True}),
    "llama 3": ("llama", "bfloat16", 1, {"tie_word_embeddings": True, "rope_scaling": ROPE}),
    "llama, odd widths": (
        "llama",
        "bfloat16",
        1,
        {"hidden_size": 192, "intermediate_size": 328, "head_dim": 48},
    ),
    "qwen2": ("qwen2", "bfloat16", 1, {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", "bfloat16", 1, {"tie_word_embeddings": False, "head_dim": 128}),
    "gemma2": ("gemma2", "bfloat16", 1, GEMMA),
    "gemma2, float16": ("gemma2", "float16", 1, GEMMA),
    "gemma3": ("gemma3_text", "bfloat16", 1, GEMMA),
    "gemma4": ("gemma4_text", "bfloat16", 1, GEMMA4),
    "gemma4 large": ("gemma4_text", "bfloat16", 1, GEMMA4_LARGE),
    "mistral": ("mistral", "bfloat16", 1, {"sliding_window": None}),
    "phi3": ("phi3", "bfloat16", 1, {"tie_word_embeddings": False, "sliding_window": None}),
    "granite": (
        "granite",
        "bfloat16",
        1,
        {
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.03125,
            "residual_multiplier": 0.22,
            "logits_scaling": 0.5,
        },
    ),
    "smollm3": ("smollm3", "bfloat16", 1, {"tie_word_embeddings": True}),
}
VOCABULARY = 320
SIZES = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 10,  # Q4_K_M gives another type to some of them
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def family_directory(family: str, folder: Path, *, std: float = 0.05, **other: Any) -> Path:
    """Random weights, different for each tensor; norms and biases too.

    Args:
        std: of the weights; the larger, the more a wrong number in config.json shows.
        other: values of config.json that take the place of those here.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, dtype, files, more = FAMILIES[family]
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "gemma4_text":  # which has no tokenizer.model
        rows = write_tokenizer(folder)
        more = {**more, "vocab_size": rows, "vocab_size_per_layer_input": rows}
    config = AutoConfig.for_model(kind, **{**SIZES, **more, **other})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std).add_(1.0 if parameter.dim() == 1 else 0.0)
        for number, (name, buffer) in enumerate(model.named_buffers()):
            if name.endswith("layer_scalar"):
                buffer.fill_(1.0 + 0.01 * number)
    size = (1 << 16) + sum(p.numel() for p in model.parameters()) * (4 if dtype == "float32" else 2)
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size=size if files == 1 else size // files)
    if kind == "gemma4_text":
        return folder
    (folder / "tokenizer.model").write_bytes(_vocabulary())
    tokens = {"add_bos_token": True, "tokenizer_class": "LlamaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    return folder


def _vocabulary() -> bytes:
    from sentencepiece import sentencepiece_model_pb2 as form

    model = form.ModelProto()
    pieces = [("<pad>", 3), ("<s>", 3), ("</s>", 3), ("<unk>", 2)]
    pieces += [(f"<0x{byte:02X}>", 6) for byte in range(256)]
    pieces += [(f"\u2581word{i}", 1) for i in range(VOCABULARY - len(pieces))]
    for i, (text, number) in enumerate(pieces):
        model.pieces.add(piece=text, score=-float(i), type=number)
    model.trainer_spec.model_type = form.TrainerSpec.ModelType.BPE
    model.trainer_spec.byte_fallback = True
    return bytes(model.SerializeToString())


def write_adapter(
    folder: Path, base: Path, *, rank: int = 16, seed: int = 1, **config: Any
) -> Path:
    """Random LoRA factors for every linear module of a base."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    factors = {}
    for file in sorted(base.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (not a dict)
                module = name.removesuffix(".weight")
                if module.endswith(LINEAR) and name.endswith(".weight"):
                    rows, columns = tensors.get_slice(name).get_shape()
                    a = random.normal(0, 0.1, (rank, columns)).astype(np.float32)
                    b = random.normal(0, 0.02, (rows, rank)).astype(np.float32)
                    factors[f"base_model.model.{module}.lora_A.weight"] = a
                    factors[f"base_model.model.{module}.lora_B.weight"] = b
    folder.mkdir(parents=True)
    save_file(factors, folder / "adapter_model.safetensors")
    plain = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": list(LINEAR),
        "bias": "none",
        "lora_dropout": 0.0,
        "base_model_name_or_path": "tiny",
    }
    (folder / "adapter_config.json").write_text(json.dumps({**plain, **config}))
    return folder
