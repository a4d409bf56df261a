"""A Hugging Face tokenizer rebuilt from a GGUF's own keys.

The loader of transformers builds another one (it splits and falls back to bytes differently); this
one reproduces llama.cpp's own token cases. Three kinds are known, by `tokenizer.ggml.model`:
- gpt2: byte-level BPE; merges are stored, and `pre` names how a text is split into words.
- llama: SentencePiece BPE; what may be merged follows from the pieces and their scores.
- gemma4: BPE with stored merges on whole lines, and bytes for what has no piece.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import BadInput
from pipeline.common.foreign import shown
from pipeline.common.values import write_json
from pipeline.stages.fetching.splits import SPLITS, splitter

if TYPE_CHECKING:
    from pipeline.bases.gguf_keys import Keys

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # llama.h, llama_token_type
NAMED = {"bos": "bos", "eos": "eos", "padding": "pad", "unknown": "unk"}
OTHERWISE = {"llama": {"bos": 1, "eos": 2, "unknown": 0}}  # ids where no key says them
BLANK = "▁"
KEEPS_BLANKS = ("<unk>", "<s>", "<|endoftext|>")  # llama-vocab.cpp, of Phi-3


def write_tokenizer(keys: Keys, out: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json.

    Args:
        keys: of the GGUF.
        out: the Hugging Face directory.

    Raises:
        BadInput: a kind of vocabulary that is not rebuilt here, by name, or one that is none.
    """
    model, pre = _kind(keys)
    try:
        tokens = [str(token) or f"[EMPTY_{i}]" for i, token in enumerate(_key(keys, "tokens"))]
        named = _named(keys, tokens, model)
        built = _built(keys, tokens, model, pre, named.get("unk_token"))
        _add(built, tokens, _types(keys, tokens), drops_blanks=_drops_blanks(keys))
        if _adds_bos(keys, model, pre):
            _put_bos(built, named["bos_token"])
    except Exception as error:  # the library raises nothing more exact
        raise BadInput(
            f"{keys.path}: its vocabulary contradicts itself: {shown(repr(error), 200)}",
            "Get the file again.",
        ) from error
    built.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": model == "llama" and _prefixed(keys),
        "clean_up_tokenization_spaces": False,
        **named,
    }
    write_json(out / "tokenizer_config.json", config)


def _key(keys: Keys, name: str, otherwise: Any = None) -> Any:
    """A key of the vocabulary; an empty list of tokens is as good as none."""
    return keys.whole(f"tokenizer.ggml.{name}", [] if name == "tokens" else otherwise)


def _kind(keys: Keys) -> tuple[str, str]:
    model, pre = _key(keys, "model"), _key(keys, "pre", "default")
    if model not in ("llama", "gemma4") and (model != "gpt2" or pre not in SPLITS):
        raise BadInput(
            f"the base's vocabulary ({shown(model)}, {shown(pre)}) cannot be rebuilt",
            f"Supported: llama, gemma4, and gpt2 with {', '.join(SPLITS)}.",
        )
    return model, pre


def _named(keys: Keys, tokens: list[str], model: str) -> dict[str, str]:
    """Spellings of the tokens that a config names."""
    found = {}
    for name, short in NAMED.items():
        i = _key(keys, f"{name}_token_id", OTHERWISE.get(model, {}).get(name))
        if isinstance(i, int) and 0 <= i < len(tokens):
            found[f"{short}_token"] = tokens[i]
    return found


def _types(keys: Keys, tokens: list[str]) -> list[int]:
    return _key(keys, "token_type") or [NORMAL] * len(tokens)


def _adds_bos(keys: Keys, model: str, pre: str) -> bool:
    """As llama-vocab.cpp decides where the key is missing, and for Gemma 4 in any case."""
    asked = _key(keys, "add_bos_token")
    if isinstance(asked, bool) and model != "gemma4":
        return asked
    return model != "gpt2" or SPLITS[pre].bos


def _prefixed(keys: Keys) -> bool:
    """A SentencePiece text begins with a blank, unless a key says otherwise."""
    return _key(keys, "add_space_prefix", True) is not False


def _built(keys: Keys, tokens: list[str], model: str, pre: str, unknown: str | None) -> Any:
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ValueError("a token stands in it twice")  # llama.cpp does not load it
    if model == "gpt2":
        return _byte_level(vocabulary, _stored_merges(keys), pre)
    if model == "gemma4":
        return _lines(vocabulary, _stored_merges(keys), unknown)
    merges = _merges(vocabulary, _types(keys, tokens), _key(keys, "scores"))
    return _pieces(vocabulary, merges, unknown, prefixed=_prefixed(keys))


def _stored_merges(keys: Keys) -> list[tuple[str, str]]:
    pairs = []
    for merge in keys.whole("tokenizer.ggml.merges"):
        at = merge.find(" ", 1)  # a left part may begin with one, none is empty
        pairs.append((merge[:at], merge[at + 1 :]))
    return pairs


def _merges(
    vocabulary: dict[str, int], types: list[int], scores: list[float]
) -> list[tuple[str, str]]:
    """Each split of a piece into two pieces is a merge, ranked by the piece's score."""
    ranked = []
    for (piece, kind), score in zip(zip(vocabulary, types, strict=True), scores, strict=True):
        if kind == NORMAL:
            splits = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
            found = [(one, two) for one, two in splits if one in vocabulary and two in vocabulary]
            found.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
            ranked.append((-score, found))
    ranked.sort(key=lambda group: group[0])  # stable: equal ones stay in the vocabulary's order
    return list(chain.from_iterable(found for _, found in ranked))


def _byte_level(vocabulary: dict[str, int], merges: list[tuple[str, str]], pre: str) -> Any:
    from tokenizers import Tokenizer, decoders
    from tokenizers.models import BPE

    split = SPLITS[pre]
    built = Tokenizer(BPE(vocab=vocabulary, merges=merges, ignore_merges=split.whole))
    built.pre_tokenizer = splitter(split)
    built.decoder = decoders.ByteLevel()
    return built


def _pieces(
    vocabulary: dict[str, int],
    merges: list[tuple[str, str]],
    unknown: str | None,
    *,
    prefixed: bool,
) -> Any:
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    model = BPE(
        vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True
    )
    built = Tokenizer(model)
    first = [normalizers.Prepend(BLANK)] if prefixed else []
    built.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", BLANK)])
    last = [decoders.Strip(" ", 1, 0)] if prefixed else []
    built.decoder = decoders.Sequence(
        [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), *last]
    )
    return built


def _lines(vocabulary: dict[str, int], merges: list[tuple[str, str]], unknown: str | None) -> Any:
    from tokenizers import Regex, pre_tokenizers

    built = _pieces(vocabulary, merges, unknown, prefixed=False)
    built.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\n]+|\n+"), "isolated")
    return built


def _drops_blanks(keys: Keys) -> bool:
    """Blanks behind a control token are none: of Phi-3, which llama.cpp knows by its name."""
    name = str(keys.whole("general.name", "")).lower()
    return "phi-3" in name or "phi3" in name


def _add(built: Any, tokens: list[str], types: list[int], *, drops_blanks: bool) -> None:
    """Tell it what is one token wherever it is spelled."""
    from tokenizers import AddedToken

    for kinds, special in (((UNKNOWN, CONTROL), True), ((USER_DEFINED,), False)):
        found = [token for token, its in zip(tokens, types, strict=True) if its in kinds]
        added = [
            AddedToken(
                token,
                special=special,
                normalized=False,
                rstrip=drops_blanks and token not in KEEPS_BLANKS,
            )
            for token in found
        ]
        (built.add_special_tokens if special else built.add_tokens)(added)


def _put_bos(built: Any, bos: str) -> None:
    from tokenizers.processors import TemplateProcessing

    built.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, built.token_to_id(bos))]
    )
