"""A Llama GGUF's tensors and hyperparameters as a Hugging Face checkpoint.

The converter of llama.cpp (conversion/llama.py) renames the tensors and reorders the rows of q and
k for its rotary embedding; this undoes both. Read by gguf-py, written in bf16: seconds for 135 M
weights, where the loader of transformers takes twenty to forty.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import BadInput
from pipeline.common.values import write_json
from pipeline.stages.fetching import bf16

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
IN_BLOCK = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}


def write_weights(reader: Any, out: Path, report: Callable[[int, int], None]) -> None:
    """Write model.safetensors in bf16.

    Args:
        reader: a gguf.GGUFReader of a Llama model.
        out: the Hugging Face directory.
        report: called with the number of tensors done and of all.

    Raises:
        BadInput: a tensor that a Llama does not have, or a weight that is not finite.
    """
    heads, key_heads = (
        int(value(reader, f"attention.{n}")) for n in ("head_count", "head_count_kv")
    )
    tensors = {hugging_face_name(tensor.name): tensor for tensor in reader.tensors}
    shapes = {name: tuple(int(n) for n in reversed(t.shape)) for name, t in tensors.items()}
    done = itertools.count(1)

    def blocks(name: str) -> Iterator[Any]:
        import torch
        from gguf.quants import dequantize

        tensor = tensors[name]
        plain = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            plain = unpermuted(plain, heads if "attn_q" in tensor.name else key_heads)
        yield torch.from_numpy(plain.copy())
        report(next(done), len(tensors))

    bf16.write(out / "model.safetensors", shapes, blocks, "the base's GGUF")


def hugging_face_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    if name in WHOLE:
        return WHOLE[name]
    block, _, rest = name.removeprefix("blk.").partition(".")
    if name.startswith("blk.") and rest in IN_BLOCK:
        return f"model.layers.{block}.{IN_BLOCK[rest]}"
    raise BadInput(f"the base has a tensor {name}, which a plain Llama does not have")


def unpermuted(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows in Hugging Face's order again; shape (heads * 2 * half, width) stays."""
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(weight.shape)


def value(reader: Any, name: str) -> Any:
    """A hyperparameter by its name without the architecture in front."""
    field = reader.get_field(f"llama.{name}")
    if field is None:
        raise BadInput(f"the base's GGUF lacks the key llama.{name}")
    return field.contents()


def write_config(reader: Any, out: Path) -> None:
    """Write config.json and generation_config.json from the GGUF's keys."""
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    special = {
        f"{short}_token_id": int(field.contents())
        for short, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
        if (field := reader.get_field(f"tokenizer.ggml.{name}_token_id"))
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": int(value(reader, "embedding_length")),
        "intermediate_size": int(value(reader, "feed_forward_length")),
        "num_hidden_layers": int(value(reader, "block_count")),
        "num_attention_heads": int(value(reader, "attention.head_count")),
        "num_key_value_heads": int(value(reader, "attention.head_count_kv")),
        "vocab_size": int(value(reader, "vocab_size")),
        "max_position_embeddings": int(value(reader, "context_length")),
        "rms_norm_eps": float(f"{value(reader, 'attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": float(value(reader, "rope.freq_base")),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "dtype": "bfloat16",
        **special,
    }
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json", special)
