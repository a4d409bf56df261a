"""How byte-level vocabularies split a text into words, by the name that a GGUF gives (`pre`).

The patterns are llama.cpp's (src/llama-vocab.cpp), not the authors': what is served counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SHORT = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_REST = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{_REST}"
_MARKED = (
    rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*{_REST}"
)
_LOW, _HIGH = r"(?:(?=\p{L})[^A-Z])", r"(?:(?=\p{L})[^a-z])"  # outside ASCII it knows no case
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_HIGH}*{_LOW}+%s|[^\r\n\p{{L}}\p{{N}}]?{_HIGH}+{_LOW}*%s"
    rf"|%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_REST}"
)


@dataclass(frozen=True)
class Split:
    """What a name means."""

    pattern: str = ""
    """Of the words; '' is GPT-2's, which the library has."""
    digits: bool = False
    """Each digit is a word, before the pattern is looked for."""
    whole: bool = False
    """A word that is a token is not put together from its parts."""
    bos: bool = False
    """A BOS stands before a text, if no key says otherwise."""


_LLAMA3 = Split(_WORDS % r"\p{N}{1,3}", whole=True, bos=True)
_DBRX = Split(_WORDS % r"\p{N}{1,3}")
_QWEN2 = Split(_WORDS % r"\p{N}")
_GPT4O = Split(_CASED % (f"{_SHORT}?", f"{_SHORT}?", r"\p{N}{1,3}"))
_TEKKEN = Split(_CASED % ("", "", r"\p{N}"), whole=True, bos=True)
SPLITS: dict[str, Split] = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"), _LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe"), _DBRX),  # phi-4
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"), _QWEN2),
    "qwen35": Split(_MARKED),
    **dict.fromkeys(("gpt-4o", "llama4"), _GPT4O),  # phi-4-mini
    "tekken": _TEKKEN,  # Mistral Nemo
    **dict.fromkeys(("smollm", "refact", "starcoder", "command-r"), Split(digits=True)),
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "granite-docling"), Split()),
}


def splitter(split: Split) -> Any:
    """The library's pre-tokenizer of it."""
    from tokenizers import Regex, pre_tokenizers

    steps: list[Any] = []
    if split.digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if split.pattern:
        steps.append(pre_tokenizers.Split(Regex(split.pattern), "isolated"))
    own = not split.pattern
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=own))
    return pre_tokenizers.Sequence(steps)
