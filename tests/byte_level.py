"""A base with a byte-level vocabulary, as SmolLM2 has: a tokenizer and llama.cpp's view of it."""

from __future__ import annotations

import json
from pathlib import Path

from gguf import GGUFWriter, TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.made.artifacts import Base

CONTROL = ("<|start|>", "<|end|>")
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
WORDS = "The quick brown fox asks who jumps over the lazy dog, and why it's there at 9:30.\n\n"


def base(folder: Path) -> Base:
    """A base without weights, whose vocabulary knows a few merges."""
    folder.mkdir()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[AddedToken(one, special=True, normalized=False) for one in CONTROL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS * 3], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    _vocab(folder / "vocab.gguf", tokenizer)
    return Base.at(
        folder,
        name="byte-level",
        architecture="LlamaForCausalLM",
        parameters=0,
        context=4096,
        bos=None,
        bos_text="",
        eos_text="<|end|>",
        end_of_turn=1,
        end_of_turn_text="<|end|>",
        control=CONTROL,
        nfc=False,
        license="",
    )


def _vocab(path: Path, tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [TokenType.CONTROL if token in CONTROL else TokenType.NORMAL for token in tokens]
    )
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(0)
    writer.add_add_bos_token(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
