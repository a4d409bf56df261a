"""A Hugging Face tokenizer rebuilt from a GGUF's own keys.

The loader of transformers builds another one (it splits and falls back to bytes differently); this
one reproduces llama.cpp's own token cases. Byte-level BPE only: merges are stored, and `pre` names
the split pattern (patterns as in llama.cpp, src/llama-vocab.cpp).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.bases.gguf_keys import Keys
from pipeline.common.errors import BadInput
from pipeline.common.values import write_json

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS = {"llama-bpe": WORDS % r"\p{N}{1,3}", "qwen2": WORDS % r"\p{N}", "smollm": ""}
CONTROL, USER_DEFINED = 3, 4  # llama.h, llama_token_type
NAMED = {"bos": "bos", "eos": "eos", "padding": "pad", "unknown": "unk"}


def write_tokenizer(reader: Keys, out: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json.

    Args:
        reader: of the GGUF.
        out: the Hugging Face directory.

    Raises:
        BadInput: a kind of vocabulary that is not rebuilt here, by name.
    """
    tokens, pre = key(reader, "tokens"), key(reader, "pre")
    if key(reader, "model") != "gpt2" or pre not in SPLITS:
        raise BadInput(
            f"the base's vocabulary ({key(reader, 'model')}, {pre}) cannot be rebuilt",
            f"Supported: {', '.join(SPLITS)}.",
        )
    adds_bos = key(reader, "add_bos_token")
    if adds_bos is None:
        adds_bos = pre == "llama-bpe"  # as llama-vocab.cpp decides where the key is missing
    built = _byte_level(tokens, key(reader, "token_type"), key(reader, "merges"), pre)
    if adds_bos:
        _put_bos(built, tokens[key(reader, "bos_token_id")])
    built.save(str(out / "tokenizer.json"))
    named = {
        f"{short}_token": tokens[i]
        for name, short in NAMED.items()
        if (i := key(reader, f"{name}_token_id")) is not None
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        **named,
    }
    write_json(out / "tokenizer_config.json", config)


def key(reader: Keys, name: str) -> Any:
    """A key of the vocabulary; None if the GGUF lacks it."""
    return reader.whole(f"tokenizer.ggml.{name}", None)


def _byte_level(tokens: list[str], types: list[int], merges: list[str], pre: str) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders
    from tokenizers.models import BPE

    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    built = Tokenizer(BPE(vocab=vocabulary, merges=pairs, ignore_merges=pre == "llama-bpe"))
    built.pre_tokenizer = _splitter(pre)
    built.decoder = decoders.ByteLevel()
    for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
        found = [token for token, its in zip(tokens, types, strict=True) if its == kind]
        added = [AddedToken(token, special=special, normalized=False) for token in found]
        (built.add_special_tokens if special else built.add_tokens)(added)
    return built


def _splitter(pre: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    if pre == "smollm":
        first: Any = pre_tokenizers.Digits(individual_digits=True)
    else:
        first = pre_tokenizers.Split(Regex(SPLITS[pre]), "isolated")
    own_pattern = pre == "smollm"  # after the digits, GPT-2's pattern
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=own_pattern)
    return pre_tokenizers.Sequence([first, byte_level])


def _put_bos(built: Any, bos: str) -> None:
    from tokenizers.processors import TemplateProcessing

    built.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, built.token_to_id(bos))]
    )
