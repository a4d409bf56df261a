"""What llama.cpp sees in a vocabulary, and that the tokenizer beside it sees the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bases.asked import ANSWERED
from pipeline.common import places
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.common.foreign import shown
from pipeline.stages.fetching.frozen import TALKS
from pipeline.tools.jinja import render_text
from pipeline.tools.llamacpp import Model

UNKNOWN, CONTROL = 2, 3  # llama.h, llama_token_type: both are read out of a prompt's text
CASES = "models/ggml-vocab-llama-bpe.gguf.inp"  # texts that its authors test every vocabulary with
OWN_CASES = (
    "Made to be mended.",
    "  two blanks, a tab\tand a break\r\nafter it \n",
    "Straße, naïve café, „Grüße“, 1.234,56 € and 50\u00a0%",
    "日本語のテキスト, русский текст, עברית, 🇩🇪👩‍👩‍👧",
    "def f(x):\n    return {'a': [x ** 2, None]}  # <b>&amp;</b>",
)


@dataclass(frozen=True)
class Vocabulary:
    """A GGUF's vocabulary: the keys that a base needs."""

    tokens: list[str]
    types: list[int]
    bos: int | None
    eos: int | None

    @classmethod
    def of(cls, vocab: Path) -> Vocabulary:
        """Read it from a GGUF."""
        import gguf

        reader: Any = gguf.GGUFReader(vocab)

        def key(name: str) -> Any:
            field = reader.get_field(f"tokenizer.ggml.{name}")
            return field.contents() if field else None

        return cls(key("tokens"), key("token_type"), key("bos_token_id"), key("eos_token_id"))

    def text(self, token: int | None) -> str:
        """How a token is spelled; '' for none."""
        return "" if token is None else self.tokens[token]

    @property
    def control(self) -> tuple[str, ...]:
        """What the tokenizer makes control tokens of, wherever in a prompt it is spelled."""
        pairs = zip(self.tokens, self.types, strict=True)
        return tuple(token for token, kind in pairs if kind in (UNKNOWN, CONTROL))


def opened(folder: Path) -> Any:
    """The directory's tokenizer.

    Raises:
        BadInput: its file is none.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more exact
        raise BadInput(
            f"{file} is damaged or no tokenizer: {shown(error, 200)}", "Get the file again."
        ) from error


def agreed_bos(folder: Path, model: Model, seen: Vocabulary) -> int | None:
    """The BOS that both tokenizers put before a prompt, None if none does.

    Raises:
        ToolFailed: they do not agree, or an end is put as well.
    """
    tokenizer = opened(folder)
    plain = tokenizer.encode(OWN_CASES[0], add_special_tokens=False).ids
    theirs = tokenizer.encode(OWN_CASES[0], add_special_tokens=True).ids
    ours = model.tokenize(OWN_CASES[0], special=True, bos=True)
    front = [seen.bos] if model.adds_bos else []
    if not theirs == ours == [*front, *plain]:
        raise ToolFailed(
            f"the base's tokenizer puts {_added(theirs, plain)} around a text, "
            f"llama.cpp's {_added(ours, plain)}",
            "Take a base whose tokenizer.json and tokenizer_config.json agree on it.",
        )
    return seen.bos if front else None


def _added(ids: list[int], plain: list[int]) -> str:
    return f"{[i for i in ids if i not in plain] or 'nothing'}"


def check_tokens(folder: Path, model: Model, template: str, bos: str, eos: str) -> int:
    """Compare the directory's tokenizer with llama.cpp's; returns how many texts were compared.

    Raises:
        ToolFailed: the first text that differs.
    """
    tokenizer = opened(folder)
    talks = [render_text(template, talk, generate=False, bos=bos, eos=eos) for talk in TALKS]
    texts = [*OWN_CASES, *cases(), *talks]
    for text in texts:
        theirs = tokenizer.encode(text, add_special_tokens=False).ids
        ours = model.tokenize(text, special=True)
        if theirs != ours:
            at = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), -1)
            raise ToolFailed(
                f"the base's tokenizer and llama.cpp's differ on {text[:60]!r} at token {at}: "
                f"{theirs[at : at + 8]} and {ours[at : at + 8]}",
                "What is trained would not be what is served: take another base.",
            )
    return len(texts)


def cases() -> list[str]:
    """llama.cpp's own test texts."""
    text = (places.llama_cpp() / CASES).read_text(encoding="utf-8")
    return text.split("\n__ggml_vocab_test__\n")[:-1]


def end_of_turn(template: str, model: Model, seen: Vocabulary, bos: str, eos: str) -> int:
    """The token that ends an answer: one control token at which generation ends.

    Raises:
        BadInput: the template ends an answer otherwise.
    """
    answer = ANSWERED[-1]["content"]
    text = render_text(template, [*ANSWERED, *ANSWERED], generate=False, bos=bos, eos=eos)
    ids = [model.tokenize(rest, special=True)[:1] for rest in text.split(answer)[1:]]
    if len(ids) != 2 or ids[0] != ids[1] or not ids[0]:
        raise BadInput(
            "the base's chat template does not end every answer alike", "Take another base."
        )
    token = ids[0][0]
    if not model.is_control(token):
        raise BadInput(
            f"the base's chat template puts {seen.text(token)!r} after an answer: "
            "that is no control token",
            "A model that is trained so cannot be stopped in Ollama: take another base.",
        )
    if not model.is_end(token):
        raise BadInput(
            f"{seen.text(token)!r}, which ends an answer, does not end generation",
            'Make it the "eos_token" in the base\'s tokenizer_config.json.',
        )
    return token


def normalises(folder: Path) -> bool:
    """True where the tokenizer turns text into NFC by itself."""
    read = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    normalizer = read.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    return any(step.get("type") == "NFC" for step in steps)
