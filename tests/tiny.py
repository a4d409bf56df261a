"""A tiny random base: two Llama layers and a small tokenizer that llama.cpp reads alike.

    tiny_base_directory(folder)    # well under a second, the same bytes each time

The tokenizer is BPE with byte fallback, which the converter writes as a "llama" vocabulary with
equal scores: llama.cpp then merges from the left, Hugging Face by rank. Both give the same here,
because no character is the left half of one pair and the right half of another. It also takes: no
pre-tokenizer, "▁" for a space, chat markers as special tokens, and `add_prefix_space: false`.
"""

import json
from pathlib import Path

import numpy as np

SPECIAL = ["<unk>", "<s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
WIDTH, LAYERS, HEADS, KEY_HEADS, INNER = 256, 2, 4, 2, 512
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
LEFT, RIGHT = "tioaes▁", "hnrluwmp"


def tiny_base_directory(folder: Path, *, template: str = TEMPLATE) -> Path:
    """A Hugging Face directory of about 1.5 million random weights in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = write_tokenizer(folder)
    write_weights(folder / "model.safetensors", tokens)
    write_config(folder / "config.json", tokens)
    (folder / "chat_template.jinja").write_text(template)
    (folder / "LICENSE").write_text("CC0-1.0\n")
    return folder


def write_tokenizer(folder: Path) -> int:
    """Write the tokenizer's two files; returns the size of the vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from tokenizers.processors import TemplateProcessing

    merges = [(left, right) for left in LEFT for right in RIGHT]
    entries = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    entries += [chr(i) for i in range(33, 127)] + [left + right for left, right in merges]
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "<|end|>",
        "unk_token": "<unk>",
        "additional_special_tokens": SPECIAL[2:],
        "add_prefix_space": False,
        "model_max_length": 4096,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return int(tokenizer.get_vocab_size())


def write_weights(path: Path, tokens: int) -> None:
    """Random weights, the same for the same vocabulary."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(7)
    key_width = WIDTH // HEADS * KEY_HEADS
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (tokens, WIDTH)}
    for i in range(LAYERS):
        block = f"model.layers.{i}"
        shapes |= {
            f"{block}.self_attn.q_proj.weight": (WIDTH, WIDTH),
            f"{block}.self_attn.k_proj.weight": (key_width, WIDTH),
            f"{block}.self_attn.v_proj.weight": (key_width, WIDTH),
            f"{block}.self_attn.o_proj.weight": (WIDTH, WIDTH),
            f"{block}.mlp.gate_proj.weight": (INNER, WIDTH),
            f"{block}.mlp.up_proj.weight": (INNER, WIDTH),
            f"{block}.mlp.down_proj.weight": (WIDTH, INNER),
        }
    weights = {n: random.normal(0, 0.05, s).astype(np.float32) for n, s in shapes.items()}
    norms = [f"model.layers.{i}.{n}_layernorm.weight" for i in range(LAYERS) for n in NORMS]
    weights |= {name: np.ones(WIDTH, np.float32) for name in [*norms, "model.norm.weight"]}
    save_file(weights, path, metadata={"format": "pt"})


NORMS = ("input", "post_attention")


def write_config(path: Path, tokens: int) -> None:
    """config.json of a Llama whose input and output embeddings are one."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "vocab_size": tokens,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": SPECIAL.index("<|end|>"),
        "torch_dtype": "float32",
    }
    path.write_text(json.dumps(config, indent=1))
