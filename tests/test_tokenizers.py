"""Tokenizers rebuilt from a GGUF's keys: all of llama.cpp's own cases, and harder ones with it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from pipeline.bases.gguf_keys import Keys
from pipeline.common import places
from pipeline.common.errors import BadInput
from pipeline.stages.fetching import gguf_tokenizer
from pipeline.stages.fetching.splits import SPLITS
from pipeline.tools.gguf_header import header
from pipeline.tools.gguf_layout import layout
from pipeline.tools.gguf_values import text
from pipeline.tools.llamacpp import Model

REBUILT = (
    *("llama-bpe", "llama-spm", "phi-3", "qwen2", "qwen35", "gemma-4"),
    *("gpt-2", "mpt", "refact", "starcoder", "command-r"),
)

ONE_EACH = list({split: name for name, split in reversed(SPLITS.items())}.values())
"""One name of every way to split: several names mean the same."""
HARD = (
    "CamelCase HTTPServer iOS ÉCOLE Straße ΑΒγδ ǅungla ЖЕЛЕЗО железо",
    "I'll, I'LL, they'Ve, it's, IT'S, 'tis 'Sunday",
    "1 12 123 1234 12345 ½ ² Ⅷ ٣٤ 1.234,56 €",
    "a  b   c\t\td \r\n\r\n e\n\n\nf  \n g/\n//\n",
    "é ñ हिन्दी ภาษาไทย 🇩🇪👩‍👩‍👧 日本語ABCあいう",
    " leading, trailing ",
    "▁already ▁▁ marked",
)
NO = struct.pack("<I?", 7, False)


def vocabulary(name: str) -> Keys:
    path = places.llama_cpp() / "models" / f"ggml-vocab-{name}.gguf"
    return Keys(path, layout(path))


@pytest.mark.parametrize("name", REBUILT)
def test_every_case_of_llama_cpps_own_is_equal(name: str, tmp_path: Path) -> None:
    keys = vocabulary(name)
    texts = Path(f"{keys.path}.inp").read_text(encoding="utf-8")
    wanted = Path(f"{keys.path}.out").read_text().splitlines()
    gguf_tokenizer.write_tokenizer(keys, tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    cases = texts.split("\n__ggml_vocab_test__\n")
    pairs = list(zip(cases, wanted, strict=False))
    assert len(pairs) >= 46
    wrong = [
        (text, found, ids)
        for text, line in pairs
        if (found := tokenizer.encode(text, add_special_tokens=False).ids)
        != (ids := [int(i) for i in line.split()])
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["deepseek-llm", "bert-bge", "nomic-bert-moe", "falcon"])
def test_another_kind_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"the base's vocabulary \(.*\) cannot be rebuilt"):
        gguf_tokenizer.write_tokenizer(vocabulary(name), tmp_path)
    assert list(tmp_path.iterdir()) == []


def changed(name: str, folder: Path, **keys: bytes) -> Keys:
    """A shipped vocabulary with other keys: whole names with `__` for dots."""
    path = folder / "changed.gguf"
    named = {key.replace("__", "."): raw for key, raw in keys.items()}
    path.write_bytes(header({**layout(vocabulary(name).path).keys, **named}, []))
    return Keys(path, layout(path))


def rebuilt(keys: Keys, folder: Path) -> Any:
    gguf_tokenizer.write_tokenizer(keys, folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("pre", ONE_EACH)
def test_every_way_to_split_is_llama_cpps(pre: str, tmp_path: Path) -> None:
    keys = changed("gpt-2", tmp_path, tokenizer__ggml__pre=text(pre))
    tokenizer = rebuilt(keys, tmp_path)
    with Model(keys.path) as model:
        for one in HARD:
            ours = tokenizer.encode(one, add_special_tokens=False).ids
            assert ours == model.tokenize(one, special=True), one


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("llama-spm", {}),
        ("llama-spm", {"add_bos_token": NO, "add_space_prefix": NO}),
        ("phi-3", {}),  # its name says that blanks behind a marker belong to it
        ("phi-3", {"name": text("Another")}),
        ("gemma-4", {"add_bos_token": NO}),  # llama.cpp puts one all the same
        ("llama-bpe", {"add_bos_token": NO}),
    ],
)
def test_markers_blanks_and_bos_are_llama_cpps(
    name: str, keys: dict[str, bytes], tmp_path: Path
) -> None:
    front = {"name": "general__"}
    whole = {front.get(key, "tokenizer__ggml__") + key: raw for key, raw in keys.items()}
    found = changed(name, tmp_path, **whole)
    tokenizer = rebuilt(found, tmp_path)
    markers = "<s> one</s>\n two<|user|>\n Hello <|end|>\n<|eot_id|> x<turn|>\n<|endoftext|> y"
    with Model(found.path) as model:
        for one in (*HARD, markers, ""):
            assert tokenizer.encode(one).ids == model.tokenize(one, special=True, bos=True), one


@pytest.mark.parametrize(
    "keys",
    [
        {"tokenizer__ggml__tokens": struct.pack("<IIQQ", 9, 8, 1, 0)},
        {"tokenizer__ggml__token_type": struct.pack("<IIQi", 9, 5, 1, 1)},
    ],
)
def test_a_vocabulary_that_contradicts_itself_is_no_crash(
    keys: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="contradicts itself"):
        rebuilt(changed("gpt-2", tmp_path, **keys), tmp_path)
