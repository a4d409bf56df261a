"""Files of strangers: a header, an index, a config.json is read rightly or refused in two lines.

Cases of each kind; `test_fuzz.py` makes some thousand more.
"""

from __future__ import annotations

import json
import shutil
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import gguf, info, key, safetensors, text, two_lines, u32, u64

from pipeline.bases import checkpoint, known_keys
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.common.foreign import LONGEST, shown
from pipeline.made.stage import Where
from pipeline.stages.fetching import from_huggingface
from pipeline.tools.gguf_layout import layout
from pipeline.tools.gguf_values import uint32

DEEP = "[" * 200_000
F32 = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """No file makes anything that is much larger than itself."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


# safetensors


def twice(name: str) -> bytes:
    return b'{"%s": %s, "%s": %s}' % ((name.encode(), json.dumps(F32).encode()) * 2)


BAD_HEADERS: dict[str, Any] = {
    "a text": b'"abc"',
    "a list": [F32],
    "nested deeply": DEEP.encode(),
    "nested in a tensor": b'{"a": ' + DEEP[:900].encode() + b"]" * 900 + b"}",
    "nothing": {},
    "no tensor": {"__metadata__": {"format": "pt"}},
    "a tensor that is a number": {"a": 5},
    "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 16]}},
    "no type": {"a": {"shape": [4], "data_offsets": [0, 16]}},
    "a type that is a list": {"a": F32 | {"dtype": ["F32"]}},
    "offsets that overlap": {"a": F32, "b": F32},
    "negative offsets": {"a": F32 | {"data_offsets": [-16, 0]}},
    "offsets the other way round": {"a": F32 | {"data_offsets": [16, 0]}},
    "an end behind the file": {"a": F32 | {"shape": [8], "data_offsets": [0, 32]}},
    "a hole": {"a": F32 | {"shape": [1], "data_offsets": [0, 4]},
               "b": F32 | {"shape": [2], "data_offsets": [8, 16]}},
    "bytes that nobody has": {"a": F32 | {"shape": [1], "data_offsets": [0, 4]}},
    "a negative length": {"a": F32 | {"shape": [-2, -2]}},
    "a length that is true": {"a": F32 | {"shape": [True, 4]}},
    "a length with a point": {"a": F32 | {"shape": [4.0]}},
    "an offset that is true": {"a": F32 | {"dtype": "BF16", "data_offsets": [False, 8]}},
    "a length beyond all files": {"a": F32 | {"shape": [1 << 70, 1 << 70]}},
    "a product that overflows to what fits": {"a": F32 | {"shape": [1 << 32, 1 << 30]}},
    "a hundred thousand lengths": {"a": F32 | {"shape": [1] * 100_000}},
    "a name that stands twice": twice("a"),
    "half a character": b'{"\\ud800": 5}',
    "not a number": b'{"a": NaN}',
    "a number of ten thousand digits": b'{"a": ' + b"9" * 10_000 + b"}",
    "no UTF-8": b"\xff\xfe{}",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_header_that_contradicts_its_file_is_a_damaged_file(tmp_path, name):
    with pytest.raises(BadInput, match="is damaged or no safetensors file") as caught:
        checkpoint.header(safetensors(tmp_path / "x.safetensors", BAD_HEADERS[name]))
    assert two_lines(caught.value)


@pytest.mark.parametrize("length", [1 << 63, 99_000_000, 200])
def test_a_header_longer_than_its_file_is_a_damaged_file(tmp_path, length):
    with pytest.raises(BadInput, match=f"a header of {length} bytes"):
        checkpoint.header(safetensors(tmp_path / "x", {"a": F32}, length=length))


@pytest.mark.parametrize("size", range(9))
def test_a_file_shorter_than_a_header_is_a_damaged_file(tmp_path, size):
    (tmp_path / "x").write_bytes(b"\x02\0\0\0\0\0\0\0{}"[:size])
    with pytest.raises(BadInput, match="is damaged"):
        checkpoint.header(tmp_path / "x")


def test_what_the_library_writes_is_read(tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    tensors = {"one": np.ones(3, np.float32), "empty": np.ones((0, 4), np.float16)}
    tensors |= {"number": np.array(2, np.float32), "Äpfel": np.ones((2, 5), np.float16)}
    save_file(tensors, tmp_path / "x", metadata={"format": "pt"})
    found = checkpoint.header(tmp_path / "x")
    assert {n: tuple(t["shape"]) for n, t in found.items()} == {
        n: t.shape for n, t in tensors.items()
    }


def test_a_strangers_name_does_no_harm_to_a_terminal(tmp_path):
    head = {"\x1b[2Jgone\n" * 99: F32 | {"dtype": "F8"}}
    with pytest.raises(BadInput, match="is stored as F8") as caught:
        checkpoint.header(safetensors(tmp_path / "x", head))
    assert two_lines(caught.value) and str(caught.value).isprintable()


# the index of several files


def sharded(folder: Path, weight_map: Any, **files: dict[str, Any]) -> Path:
    for name, tensors in files.items():
        size = max(tensor["data_offsets"][1] for tensor in tensors.values())
        safetensors(folder / f"{name}.safetensors", tensors, bytes(size))
    (folder / checkpoint.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return folder


ONE = {"a": F32, "b": F32 | {"data_offsets": [16, 32]}}
INDEX = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}


def test_files_that_hold_what_the_index_says_are_the_weights(tmp_path):
    found = checkpoint.weight_files(sharded(tmp_path, INDEX, one=ONE, two={"c": F32}))
    assert found == ["one.safetensors", "two.safetensors"]


@pytest.mark.parametrize(
    ("index", "named"),
    [
        (5, "names no weights"),
        ([], "names no weights"),
        ({}, "names no weights"),
        ({"a": 5}, "lacks 5"),
        ({"a": "../one.safetensors"}, "lacks ../one"),
        ({"a": "/etc/passwd"}, "lacks /etc/passwd"),
        ({"a": "config.json"}, "lacks config.json"),
        ({"a": "none.safetensors"}, "lacks none"),
        ({"a": "o\0ne.safetensors"}, "lacks 'o"),
        ({"a": "one.safetensors"}, "one.safetensors holds a tensor b"),
        (INDEX | {"b": "two.safetensors"}, "one.safetensors holds a tensor b"),
        (INDEX | {"a": "two.safetensors"}, "one.safetensors holds a tensor a"),
        (INDEX | {"d": "two.safetensors"}, "two.safetensors has no tensor d"),
    ],
)
def test_an_index_that_contradicts_its_files_is_refused(tmp_path, index, named):
    with pytest.raises(BadInput, match=named) as caught:
        checkpoint.weight_files(sharded(tmp_path, index, one=ONE, two={"c": F32}))
    assert two_lines(caught.value)


# config.json


@pytest.fixture
def base(tiny_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_directory, tmp_path / "base"))


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 10**18},
        {"num_hidden_layers": True},
        {"num_hidden_layers": "2"},
        {"num_hidden_layers": 2.0},
        {"num_hidden_layers": -2},
        {"hidden_size": 10**18},
        {"hidden_size": [256]},
        {"intermediate_size": {}},
        {"num_attention_heads": 0},
        {"num_attention_heads": 10**9},
        {"num_key_value_heads": False},
        {"head_dim": "x"},
        {"vocab_size": 1e300},
        {"max_position_embeddings": True},
        {"max_position_embeddings": 10**30},
        {"rope_theta": "10000"},
        {"rope_scaling": {"rope_type": ["default"]}},
        {"rope_scaling": {"rope_type": "linear"}},
        {"rope_scaling": {"rope_type": "linear", "factor": -1}},
        {"rope_scaling": {"rope_type": "default", "type": "dynamic"}},
        {"rope_scaling": {"type": "default"}, "rope_parameters": {"type": "yarn"}},
        {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        {"partial_rotary_factor": 0.5},
        {"layer_types": ["sliding_attention", "full_attention"]},
        {"layer_types": "x" * 10_000},
        {"model_type": "gemma2"},
        {"model_type": None},
        {"model_type": ["llama"]},
        {"architectures": [["LlamaForCausalLM"]]},
        {"architectures": [None]},
        {"hidden_act": ["silu"]},
        {"hidden_act": "x" * 10_000},
        {"eos_token_id": {"a": 1}},
        {"tie_word_embeddings": "yes"},
        {"rms_norm_eps": []},
        {"transformers_version": "4.5\n\x1b[2J"},
    ],
    ids=lambda values: shown(values, 60),
)
def test_a_config_with_values_that_no_model_has_is_refused(base, values):
    change(base / "config.json", **values)
    with pytest.raises(BadInput) as caught:
        checkpoint.check(base)
    assert two_lines(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "text",
    [
        '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": ' + "9" * 9999 + "}",
        '{"a": ' + DEEP, '{"a": ' + "[" * 100 + "]" * 100 + "}", '{"a": "\\ud800"}',
        '{"\\udfff": 1}', "", "null", "\x00", "5", '"a"', "\ufeff{}",
    ],
    ids=lambda text: shown(text, 30),
)  # fmt: skip
def test_what_json_cannot_hold_is_no_json(base, name, text):
    (base / name).write_text(text)
    with pytest.raises(BadInput, match=f"{name} is not JSON") as caught:
        checkpoint.check(base)
    assert two_lines(caught.value)


def test_a_json_file_is_not_read_without_end(base):
    with (base / "config.json").open("wb") as file:
        file.truncate(20 << 30)  # sparse: it takes no room
    with pytest.raises(BadInput, match="more than"):
        checkpoint.check(base)
    assert LONGEST < 100 << 20


# What the config.json and tokenizer_config.json of published bases hold, by name.
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64,
    "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
    "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3",
    },
    "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0", "use_cache": True, "vocab_size": 128256,
    "pad_token_id": 128004, "unsloth_fixed": True, "unsloth_version": "2024.9",
}  # fmt: skip
SMOLLM2 = LLAMA | {
    "is_llama_config": True, "rope_interleaved": False, "rope_scaling": None, "pad_token_id": 2,
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
}  # fmt: skip
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
    "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 21,
    "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 32768, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1", "use_cache": True, "use_sliding_window": False,
    "vocab_size": 151936, "use_mrope": False,
}  # fmt: skip
QWEN3 = QWEN2 | {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False,
    "head_dim": 128, "rope_scaling": None, "sliding_window": None,
}  # fmt: skip
BY_TRANSFORMERS_5 = QWEN3 | {
    "dtype": "bfloat16", "layer_types": ["full_attention"] * 24, "pad_token_id": None,
    "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
}  # fmt: skip
TOKENS = {
    "add_bos_token": False, "add_eos_token": False, "add_prefix_space": None, "legacy": False,
    "added_tokens_decoder": {
        "0": {"content": "<s>", "lstrip": False, "normalized": False, "rstrip": False,
              "single_word": False, "special": True},
    },
    "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": None,
    "clean_up_tokenization_spaces": False, "eos_token": {"__type": "AddedToken", "content": "</s>",
    "lstrip": False, "normalized": True, "rstrip": False, "single_word": False},
    "errors": "replace", "model_max_length": 1000000000000000019884624838656, "pad_token": "<pad>",
    "model_input_names": ["input_ids", "attention_mask"], "padding_side": "right",
    "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": "<unk>",
    "sp_model_kwargs": {}, "use_default_system_prompt": False, "extra_special_tokens": {},
    "backend": "tokenizers", "is_local": True,
}  # fmt: skip


@pytest.mark.parametrize("config", [LLAMA, SMOLLM2, QWEN2, QWEN3, BY_TRANSFORMERS_5])
def test_of_known_models_every_key_goes_on_as_it_was(tmp_path, config):
    """Other bytes would be another base: everybody who has it would train again."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(TOKENS | {"chat_template": "x"}))
    said: list[str] = []
    checkpoint.architecture.check(tmp_path, config)
    from_huggingface._write_config(tmp_path, tmp_path, config, Where(say=said.append))
    before = {key: value for key, value in config.items() if key != "torch_dtype"}
    wanted = {**before, "dtype": "bfloat16"}
    assert (tmp_path / "config.json").read_text() == json.dumps(wanted, indent=1) + "\n"
    assert (tmp_path / "tokenizer_config.json").read_text() == json.dumps(TOKENS, indent=1) + "\n"
    assert said == []


def test_a_key_that_is_not_known_reaches_nobody_and_it_is_said(tmp_path):
    hostile = {"attn_implementation": "someone/kernel", "_attn_implementation_internal": "x/y"}
    hostile |= {"to_dict": 5, "_experts_implementation": "a/b", "per_layer_config": {"0": {}}}
    (tmp_path / "tokenizer_config.json").write_text(
        '{"eos_token": "a", "vocab_file": "/etc/passwd"}'
    )
    (tmp_path / "generation_config.json").write_text(
        '{"eos_token_id": 5, "cache_implementation": "x", "custom_generate": "org/code"}'
    )
    said: list[str] = []
    from_huggingface._write_config(tmp_path, tmp_path, LLAMA | hostile, Where(say=said.append))
    kept = json.loads((tmp_path / "config.json").read_text())
    assert kept.keys() <= known_keys.CONFIG.keys()
    assert json.loads((tmp_path / "tokenizer_config.json").read_text()) == {"eos_token": "a"}
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"eos_token_id": 5}
    assert said == [
        "config.json: left out, as not known here: _attn_implementation_internal, "
        "_experts_implementation, attn_implementation, per_layer_config, to_dict",
        "tokenizer_config.json: left out, as not known here: vocab_file",
    ]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tokenizer_config.json", {"eos_token": {"content": "a", "code": "b"}}),
        ("tokenizer_config.json", {"eos_token": 5}),
        ("tokenizer_config.json", {"tokenizer_class": "../../evil"}),
        ("tokenizer_config.json", {"sp_model_kwargs": {"model_file": "/etc/passwd"}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"0": {"__type": "AddedToken"}}}),
        ("generation_config.json", {"eos_token_id": "5"}),
    ],
)
def test_a_known_key_with_another_kind_of_value_is_refused(tmp_path, name, values):
    (tmp_path / name).write_text(json.dumps(values))
    with pytest.raises(BadInput, match=f"{name}: .* is not what this key is for") as caught:
        from_huggingface._write_config(tmp_path, tmp_path, LLAMA, Where())
    assert two_lines(caught.value)


def test_an_index_that_is_not_used_is_not_copied(base, tmp_path):
    """The converter would look for the files that it names."""
    from pipeline.bases.reference import resolve

    (base / checkpoint.INDEX).write_text('{"weight_map": {"a": "model-00001-of-2.safetensors"}}')
    (tmp_path / "out").mkdir()
    from_huggingface.write(tmp_path / "out", resolve(str(base), Path("/")), Where())
    assert not (tmp_path / "out" / checkpoint.INDEX).exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", DEEP.encode(), b'{"model": {"type": "BPE", "vocab": 5}}'],
)
def test_a_tokenizer_that_is_none_is_refused_before_anything_is_made(base, tmp_path, content):
    from pipeline.bases.reference import resolve

    (base / "tokenizer.json").write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match=r"tokenizer\.json is damaged or no tokenizer") as caught:
        from_huggingface.write(tmp_path / "out", resolve(str(base), Path("/")), Where())
    assert two_lines(caught.value)


def test_the_folder_of_an_adapter_is_no_base_and_says_how_it_becomes_one(base):
    (base / "model.safetensors").rename(base / "adapter_model.safetensors")
    change(base / "adapter_config.json", base_model_name_or_path="meta/Llama-3.2-1B")
    with pytest.raises(BadInput, match="a LoRA adapter of meta/Llama-3") as caught:
        checkpoint.check(base)
    assert "FROM merged:./base+" in caught.value.next_step
    (base / "config.json").unlink()
    with pytest.raises(BadInput, match="a LoRA adapter"):
        checkpoint.check(base)


def test_an_adapter_beside_a_whole_base_is_nobodys_business(base):
    change(base / "adapter_config.json", base_model_name_or_path="x")
    assert checkpoint.check(base)["model_type"] == "llama"


# GGUF


NUMBERS, STRINGS, NESTED = (u32(kind) for kind in (4, 8, 9))
BAD_GGUFS: dict[str, bytes] = {
    "empty": b"",
    "a pickle": b"\x80\x04GGUF",
    "cut off in the front": b"GGUF" + u32(3) + u64(1),
    "version 1": gguf(version=1),
    "version 4": gguf(version=4),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "more keys than bytes": gguf(keys=1 << 62),
    "more tensors than bytes": gguf(tensors=(1 << 64) - 1),
    "more keys than any model": gguf(keys=1 << 20, data=1 << 25),
    "a name of 2^63 bytes": gguf(u64(1 << 63), keys=1),
    "a string of 2^63 bytes": gguf(key("a", 8, u64(1 << 63)), keys=1),
    "a string longer than the file": gguf(key("a", 8, u64(999)), keys=1),
    "an array of 2^62 numbers at the end": gguf(key("a", 9, NUMBERS + u64(1 << 62)), keys=1),
    "an array of 2^62 strings": gguf(key("a", 9, STRINGS + u64(1 << 62)), keys=1, data=999),
    "an array of strings that end behind it": gguf(
        key("a", 9, STRINGS + u64(2) + text("b") + u64(1 << 60)), keys=1, data=64
    ),
    "an array of arrays": gguf(
        key("a", 9, NESTED + u64(1) + NUMBERS + u64(1) + u32(0)), keys=1, data=64
    ),
    "arrays in arrays in arrays": gguf(
        key("a", 9, (NESTED + u64(1)) * 50_000 + NUMBERS + u64(0)), keys=1
    ),
    "an array of a type that is none": gguf(key("a", 9, u32(77) + u64(0)), keys=1),
    "a value of a type that is none": gguf(key("a", 13, u64(0)), keys=1),
    "a key that stands twice": gguf(key("a", 4, u32(1)) * 2, keys=2),
    "a key without a name": gguf(key("", 4, u32(1)), keys=1),
    "a name that is no text": gguf(text(b"\xff") + u32(4) + u32(1), keys=1),
    "an alignment of 0": gguf(key("general.alignment", 4, u32(0)), keys=1),
    "an alignment of 33": gguf(key("general.alignment", 4, u32(33)), keys=1),
    "an alignment that is a text": gguf(key("general.alignment", 8, text("32")), keys=1),
    "an alignment in a byte": gguf(key("general.alignment", 0, b"\x20"), keys=1),
    "an alignment larger than the file": gguf(
        key("general.alignment", 4, u32(1 << 31)), info("a", 4), keys=1, tensors=1, data=64
    ),
    "a tensor that stands twice": gguf(info("a", 4), info("a", 4, at=32), tensors=2, data=64),
    "a tensor without a name": gguf(info("", 4), tensors=1, data=64),
    "no dimension": gguf(info("a"), tensors=1, data=64),
    "five dimensions": gguf(info("a", 1, 1, 1, 1, 1), tensors=1, data=64),
    "2^32 dimensions": gguf(text("a") + u32((1 << 32) - 1), tensors=1, data=64),
    "a dimension of 0": gguf(info("a", 0, 4), tensors=1, data=64),
    "a product that overflows to what fits": gguf(info("a", 1 << 32, 1 << 32), tensors=1, data=64),
    "a type that is none": gguf(info("a", 4, kind=99), tensors=1, data=64),
    "a type that was taken away": gguf(info("a", 32, kind=4), tensors=1, data=64),
    "a row that is no whole block": gguf(info("a", 33, kind=8), tensors=1, data=64),
    "a place that is not aligned": gguf(info("a", 4, at=8), tensors=1, data=64),
    "a place behind the file": gguf(info("a", 4, at=1 << 63), tensors=1, data=64),
    "a tensor in another": gguf(info("a", 16), info("b", 4, at=32), tensors=2, data=64),
    "two tensors at one place": gguf(info("a", 4), info("b", 4), tensors=2, data=64),
    "weights that are cut off": gguf(info("a", 17), tensors=1, data=64),
}


@pytest.mark.parametrize("name", BAD_GGUFS)
def test_a_gguf_that_contradicts_itself_is_no_whole_file(tmp_path, name):
    (tmp_path / "x.gguf").write_bytes(BAD_GGUFS[name])
    with pytest.raises(ToolFailed, match="is no whole GGUF file") as caught:
        layout(tmp_path / "x.gguf")
    assert two_lines(caught.value)


@pytest.mark.parametrize("version", [2, 3])
def test_a_gguf_in_order_is_read(tmp_path, version):
    words = u32(8) + u64(2) + text("a") + text("ü")
    parts = [key("general.alignment", 4, u32(64)), key("words", 9, words), key("n", 10, u64(5))]
    infos = [info("b", 4, 2, at=64), info("a", 32, kind=8)]
    front = gguf(*parts, *infos, keys=3, tensors=2, version=version)
    path = tmp_path / "x.gguf"
    path.write_bytes(front + bytes(-len(front) % 64) + bytes(96))
    found = layout(path)
    assert found.keys == {
        "general.alignment": uint32(64), "words": u32(9) + words, "n": u32(10) + u64(5),
    }  # fmt: skip
    assert {n: (p.kind, p.shape, p.size) for n, p in found.tensors.items()} == {
        "b": ("F32", (4, 2), 32), "a": ("Q8_0", (32,), 34),
    }  # fmt: skip
