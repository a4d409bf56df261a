"""The smallest model that Ollama can serve: a quarter of a megabyte that says one known thing.

It shows what an Ollama can do without anything real at stake (capable.py); tests use it too.
A llama with one layer of zeros, so that a token's own embedding reaches the output; the output rows
are set so that each token of `says` is followed by the next one, and the last by the end-of-turn.
The vocabulary is bytes and control tokens only, which Hugging Face and llama.cpp read alike.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.common.values import whole

CONTROL = ("<unk>", "<s>", "</s>", "<|turn|>", "<|end|>")
BOS, END = CONTROL.index("<s>"), CONTROL.index("<|end|>")
SAYS = "ok"
WIDTH = 64  # of the embeddings; random signs of this length are nearly orthogonal
CONTEXT = 4096

# Ollama takes a template within 100 edits of one that it knows for that one: hence the comment.
TEMPLATE = (
    "{#- This template belongs to the smallest model of the specialist pipeline. It is told apart "
    "from every template that a server may know by these words, which render to nothing. -#}"
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
_BLANK = "▁"  # how SentencePiece spells a space


def pieces() -> list[str]:
    """The vocabulary: control tokens, the 256 bytes, the space."""
    return [*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), _BLANK]


def byte_id(character: str) -> int:
    """The token id of an ASCII character."""
    return len(CONTROL) + ord(character)


def tokenizer() -> dict[str, Any]:
    """The vocabulary as a tokenizer.json."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    special = [
        {"id": i, "content": text, "special": True, **flags} for i, text in enumerate(CONTROL)
    ]
    return {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _BLANK},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: i for i, piece in enumerate(pieces())},
            "merges": [],
        },
    }


def follows(says: str, *, endless: bool = False) -> dict[int, int]:
    """Which token follows which: the prompt's last one (a line break) is followed by `says`.

    Raises:
        ValueError: a character twice, so that two tokens would have to follow it.
    """
    chain = [byte_id("\n"), *(byte_id(character) for character in says)]
    if len(set(chain)) < len(chain):
        raise ValueError(f"each character once: {says!r}")
    return dict(zip(chain, [*chain[1:], chain[1] if endless else END], strict=True))


def write(path: Path, says: str = SAYS, *, endless: bool = False, template: str = TEMPLATE) -> None:
    """Write the model as a GGUF; the same bytes each time. '' for one without a template."""
    import numpy as np
    from gguf import GGUFWriter

    names = pieces()
    signs = np.random.default_rng(0).integers(0, 2, (len(names), WIDTH)) * 2 - 1
    embedding = signs.astype(np.float32)
    output = np.zeros_like(embedding)
    for token, next_token in follows(says, endless=endless).items():
        output[next_token] += embedding[token]
    square, ones = np.zeros((WIDTH, WIDTH), np.float32), np.ones(WIDTH, np.float32)
    layer = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    tensors = {
        "token_embd.weight": embedding,
        "output.weight": output,
        "output_norm.weight": ones,
        "blk.0.attn_norm.weight": ones,
        "blk.0.ffn_norm.weight": ones,
        **{f"blk.0.{name}.weight": square for name in layer},
    }
    with whole(path) as beside:
        writer = GGUFWriter(beside, "llama")
        _keys(writer, names, template)
        for name, values in tensors.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _keys(writer: Any, names: list[str], template: str) -> None:
    writer.add_name("smallest")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(WIDTH)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(names))
    writer.add_file_type(0)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(names)
    writer.add_token_scores([0.0] * len(names))
    kinds = [2, *[3] * (len(CONTROL) - 1), *[6] * 256, 1]  # unknown, control, byte, normal
    writer.add_token_types(kinds)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(END)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    if template:
        writer.add_chat_template(template)


def write_tokenizer(path: Path) -> None:
    """Write the vocabulary as a tokenizer.json."""
    path.write_text(json.dumps(tokenizer(), ensure_ascii=False), encoding="utf-8")
