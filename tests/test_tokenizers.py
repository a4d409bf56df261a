"""Tokenizers rebuilt from a GGUF's keys: all of llama.cpp's own cases."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from pipeline.bases.gguf_keys import Keys
from pipeline.common import places
from pipeline.common.errors import BadInput
from pipeline.stages.fetching import gguf_tokenizer
from pipeline.tools.gguf_layout import layout

REBUILT = (
    *("llama-bpe", "llama-spm", "phi-3", "qwen2", "qwen35", "gemma-4"),
    *("gpt-2", "mpt", "refact", "starcoder", "command-r"),
)


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
