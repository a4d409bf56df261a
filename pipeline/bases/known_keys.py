"""The keys of a base's JSON files that reach other programs, each with the values that it may have.

transformers sets every key of a config.json as an attribute, one that names a kernel to load or a
method of its own included. So what is not known here is left out, and a known key must hold what
it is meant to hold. A key that changes what is computed must be carried over or refused, never left
out: `checkpoint` does that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.common.foreign import shown

Fits = Callable[[Any], bool]
MOST = 1 << 31  # of a number that counts something


def number(value: Any) -> bool:
    """A whole number, -1 ("none") included; True is none, as little as 1.0."""
    return type(value) is int and -1 <= value < MOST


def real(value: Any) -> bool:
    """A number."""
    return type(value) in (int, float) and abs(value) < 1e40  # 1e30 is "no longest text"


def flag(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def word(value: Any) -> bool:
    """A name without anything that another program could take for more."""
    return isinstance(value, str) and re.fullmatch(r"[\w.+ -]{1,100}", value) is not None


def _words(value: Any) -> bool:
    return isinstance(value, list) and all(map(word, value))


def ids(value: Any) -> bool:
    """A token's id, or several."""
    return number(value) or (isinstance(value, list) and all(map(number, value)))


def _plain(value: Any) -> bool:
    """Words, numbers and flags under names: nobody reads them."""
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    return word(value) or real(value) or flag(value)


def _empty(value: Any) -> bool:
    return value in ({}, [])


def _token(value: Any) -> bool:
    """A token's spelling, or the description that transformers writes of it."""
    if isinstance(value, dict):
        flags = ("lstrip", "normalized", "rstrip", "single_word", "special")
        kinds: dict[str, Fits] = {"content": _text, "__type": word, **dict.fromkeys(flags, flag)}
        return "content" in value and all(k in kinds and kinds[k](v) for k, v in value.items())
    return _text(value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 1000


def _tokens(value: Any) -> bool:
    listed = value.values() if isinstance(value, dict) else value
    return isinstance(value, (dict, list)) and all(map(_token, listed))


_COUNTS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings"),
    *("max_window_layers", "sliding_window", "pretraining_tp"),
)
_FLAGS = (
    *("attention_bias", "mlp_bias", "tie_word_embeddings", "use_cache", "use_sliding_window"),
    *("use_mrope", "is_llama_config", "rope_interleaved", "unsloth_fixed"),
    "_attn_implementation_autoset",  # transformers 4 wrote it; nothing reads it any more
)
CONFIG: dict[str, Fits] = {
    **dict.fromkeys(_COUNTS, number),
    **dict.fromkeys(_FLAGS, flag),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids),
    **dict.fromkeys(("attention_dropout", "initializer_range", "rms_norm_eps"), real),
    **dict.fromkeys(("rope_theta", "partial_rotary_factor"), real),
    **dict.fromkeys(("model_type", "hidden_act", "dtype", "transformers_version"), word),
    "unsloth_version": word,
    **dict.fromkeys(("architectures", "layer_types"), _words),
    **dict.fromkeys(("rope_scaling", "rope_parameters"), lambda value: isinstance(value, dict)),
    "transformers.js_config": _plain,
}
ROPE: dict[str, Fits] = {
    **dict.fromkeys(("rope_type", "type"), word),
    **dict.fromkeys(("factor", "low_freq_factor", "high_freq_factor", "rope_theta"), real),
    "partial_rotary_factor": real,
    "original_max_position_embeddings": number,
}
TOKENIZER: dict[str, Fits] = {
    **dict.fromkeys(("add_bos_token", "add_eos_token", "add_prefix_space", "legacy"), flag),
    **dict.fromkeys(("clean_up_tokenization_spaces", "split_special_tokens"), flag),
    **dict.fromkeys(("spaces_between_special_tokens", "use_default_system_prompt"), flag),
    **dict.fromkeys(("is_local", "trim_offsets", "fix_mistral_regex", "do_lower_case"), flag),
    **{f"{name}_token": _token for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask")},
    **dict.fromkeys(("added_tokens_decoder", "additional_special_tokens"), _tokens),
    "extra_special_tokens": _tokens,
    "model_max_length": real,
    **dict.fromkeys(("max_length", "stride"), number),
    **dict.fromkeys(("padding_side", "truncation_side", "tokenizer_class", "errors"), word),
    **dict.fromkeys(("backend", "processor_class", "truncation_strategy"), word),
    "model_input_names": _words,
    "sp_model_kwargs": _empty,
}


def parted(value: Mapping[str, Any], known: Mapping[str, Fits]) -> tuple[dict[str, Any], list[str]]:
    """The keys that are known, in their order, and the names of the others.

    Raises:
        ValueError: a known key holds something else than it is meant to; null fits all.
    """
    for key in value.keys() & known.keys():
        if value[key] is not None and not known[key](value[key]):
            raise ValueError(f"{key} = {shown(value[key], 60)}")
    kept = {key: value[key] for key in value if key in known}
    return kept, sorted(set(value) - set(known))
