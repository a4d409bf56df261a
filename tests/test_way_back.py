"""From a GGUF to a directory and back: what was never tuned loses no bit by going through us.

Small files without a model: the whole way, with models of every family, is in smoke/.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bases import families
from pipeline.bases.gguf_keys import Keys
from pipeline.bases.text_part import text_part
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.stages.fetching import agree
from pipeline.stages.packing import losses
from pipeline.stages.packing.gguf_weights import opened_gguf
from pipeline.stages.packing.text_file import opened_by_llama
from pipeline.tools import ggml
from pipeline.tools.gguf_layout import layout
from pipeline.tools.gguf_values import decoded, uint32
from pipeline.tools.outline import Outline, Tensor

LLAMA = families.of("LlamaForCausalLM").gguf
WIDTH, ROWS = 256, 8
WEIGHTS = np.random.default_rng(1).normal(size=(ROWS, WIDTH)).astype(np.float32)
NORM = np.random.default_rng(2).normal(size=WIDTH).astype(np.float32)


def write_gguf(path: Path, kind: str = "F32", **keys: Any) -> Path:
    """A file of an embedding, a matrix and a norm, with some of Llama's keys.

    Args:
        kind: type of the matrix.
        keys: whole names with `__` for dots, and numbers or texts.
    """
    import gguf

    known = {
        "llama__embedding_length": WIDTH,
        "llama__attention__head_count": 4,
        "llama__rope__freq_base": 1e4,
    }
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list(["a", "b", "c"])
    writer.add_token_scores([0.0, 0.5, 1.0])
    writer.add_token_types([1, 1, 1])
    for name, value in {**known, **keys}.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](name.replace("__", "."), value)
    data = ggml.quantize(kind, WEIGHTS)
    writer.add_tensor("token_embd.weight", np.zeros((3, WIDTH), np.float32))
    writer.add_tensor("blk.0.a", data, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.add_tensor("blk.0.n", NORM)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def outlined(rows: int = ROWS, **more: Any) -> Outline:
    """What the converter would make of a directory with that matrix and that norm."""
    shapes = {"token_embd.weight": (3, WIDTH), "blk.0.a": (rows, WIDTH), "blk.0.n": (WIDTH,)}
    tensors = [Tensor(name=n, shape=s, kind="F32", source=f"my.{n}") for n, s in shapes.items()]
    if more:
        tensors.append(Tensor(**{"kind": "F32", "source": None, **more}))
    return Outline(tensors=tuple(tensors), unknown="")


def keys(path: Path) -> Keys:
    return Keys(path, layout(path))


# backwards


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_K", "Q6_K", "Q4_1"])
def test_a_tensor_is_read_in_the_directorys_order_and_without_the_constant(tmp_path, kind):
    path = write_gguf(tmp_path / "base.gguf", kind)
    order = (2, 0, 3, 1)
    a = Tensor(name="blk.0.a", shape=(ROWS, WIDTH), kind="F16", source="a", order=order)
    n = Tensor(name="blk.0.n", shape=(WIDTH,), kind="F32", source="n", added=1.0)
    stored = ggml.dequantize(kind, ggml.quantize(kind, WEIGHTS).reshape(-1), WIDTH)
    with opened_gguf([path], layout(path).tensors, [a, n]) as weights:
        found = weights.bits("a", 0, ROWS).reshape(ROWS, WIDTH)
        for block in (0, 4):  # what the converter did to it gives the file's rows
            assert (found[block : block + 4][list(order)] == stored[block : block + 4]).all()
        assert (weights.bits("a", 3, 6).reshape(3, WIDTH) == found[3:6]).all()
        assert (weights.bits("n", 0, WIDTH) == NORM - np.float32(1)).all()
        assert weights.raw("blk.0.a", 2, 5).tobytes() == ggml.quantize(kind, WEIGHTS)[2:5].tobytes()


def test_a_file_that_is_cut_off_while_it_is_read_is_named(tmp_path):
    path = write_gguf(tmp_path / "base.gguf")
    tensors = layout(path).tensors
    path.write_bytes(path.read_bytes()[:-2000])
    norm = Tensor(name="blk.0.n", shape=(WIDTH,), kind="F32", source="n")
    with (
        opened_gguf([path], tensors, [norm]) as weights,
        pytest.raises(ToolFailed, match=r"base\.gguf ends within blk\.0\.n"),
    ):
        weights.bits("n", 0, WIDTH)


# certificates


def test_the_same_tensors_and_keys_are_no_difference(tmp_path):
    path = write_gguf(tmp_path / "base.gguf")
    part = text_part(layout(path), LLAMA)
    agree.check_tensors(part, outlined(), keys(path))
    agree.check_keys(keys(path), keys(path), LLAMA)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"rows": 16}, r"tensor blk\.0\.a is \(8, 256\) in the file, \(16, 256\) by its keys"),
        ({"name": "blk.0.b", "shape": (2,)}, r"tensor blk\.0\.b is absent in the file"),
    ],
)
def test_another_tensor_or_shape_is_named(tmp_path, more, named):
    path = write_gguf(tmp_path / "base.gguf")
    with pytest.raises(ToolFailed, match=named):
        agree.check_tensors(text_part(layout(path), LLAMA), outlined(**more), keys(path))


def test_a_constant_with_other_numbers_is_named(tmp_path):
    path = write_gguf(tmp_path / "base.gguf")
    part, values = text_part(layout(path), LLAMA), (*map(float, NORM[:-1]), 9.0)
    found = outlined()
    constant = found.tensors[2].model_copy(update={"source": None, "values": values})
    with pytest.raises(ToolFailed, match=r"blk\.0\.n holds other numbers"):
        agree.check_tensors(
            part, Outline(tensors=(*found.tensors[:2], constant), unknown=""), keys(path)
        )


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"llama__rope__freq_base": 5e5}, r"llama\.rope\.freq_base is 10000\.0 in the file, 50000"),
        ({"llama__block_count": 3}, r"llama\.block_count is absent in the file, 3 when"),
        ({"llama__attention__key_length": 65}, r"llama\.attention\.key_length is 64 in the file"),
    ],
)
def test_another_key_is_named(tmp_path, more, named):
    one, other = write_gguf(tmp_path / "a.gguf"), write_gguf(tmp_path / "b.gguf", **more)
    with pytest.raises(ToolFailed, match=named):
        agree.check_keys(keys(one), keys(other), LLAMA)


@pytest.mark.parametrize(
    "more",
    [
        {"llama__attention__key_length": 64},
        {"llama__attention__head_count_kv": 4, "llama__vocab_size": 3},
        {"llama__rope__freq_base": 1e4 + 1e-3},  # what 32 bits leave of it
    ],
)
def test_a_key_that_says_what_llama_cpp_takes_without_it_is_no_difference(tmp_path, more):
    one, other = write_gguf(tmp_path / "a.gguf"), write_gguf(tmp_path / "b.gguf", **more)
    agree.check_keys(keys(one), keys(other), LLAMA)


# the language model in a file


def test_a_plain_file_is_opened_as_it_is(tmp_path):
    path = write_gguf(tmp_path / "base.gguf")
    with opened_by_llama(path, tmp_path / "scratch", weights=True) as plain:
        assert plain == path
    assert not (tmp_path / "scratch").exists()


def test_eyes_are_left_out_of_what_llama_cpp_opens(tmp_path):
    import gguf

    path = tmp_path / "base.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list(["a", "b", "c", "<image>"])  # one more than rows
    writer.add_token_scores([0.0, 0.5, 1.0, 2.0])
    writer.add_token_types([1, 1, 1, 3])
    writer.add_tensor("v.blk.0.x", np.ones((3, 3, 2, 2), np.float32))
    writer.add_tensor("token_embd.weight", WEIGHTS[:3])
    writer.add_tensor("mm.y", np.ones(5, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with opened_by_llama(path, tmp_path / "scratch", weights=True) as plain:
        found, whole = layout(plain), layout(path)
        assert list(found.tensors) == ["token_embd.weight"]
        a, b = found.tensors["token_embd.weight"], whole.tensors["token_embd.weight"]
        assert found.data[a.start : a.start + a.size] == whole.data[b.start : b.start + b.size]
        assert decoded(found.keys["tokenizer.ggml.tokens"]) == ["a", "b", "c"]
        assert decoded(found.keys["tokenizer.ggml.scores"]) == [0.0, 0.5, 1.0]
    assert not plain.exists()


def test_sampling_defaults_of_a_base_are_not_taken_over(tmp_path):
    path = write_gguf(tmp_path / "base.gguf", general__sampling__temp=1.5)
    assert not any("sampling" in name for name in text_part(layout(path), LLAMA).keys)


def test_fewer_tokens_than_rows_are_refused(tmp_path):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_token_list(["a", "b"])
    writer.add_tensor("token_embd.weight", WEIGHTS[:3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ToolFailed, match="2 entries for 3 rows"):
        text_part(layout(tmp_path / "a.gguf"), LLAMA)


def test_a_llama_3_of_2024_is_split_and_ended_as_ollama_does():
    from pipeline.bases.families import llama
    from pipeline.tools.gguf_values import text, texts

    tokens = [*(f"t{i}" for i in range(128009)), "<|eot_id|>"]
    old = {"tokenizer.ggml.tokens": texts(tokens), llama.EOS: uint32(128001)}
    mended = llama.normal(old, {})
    assert decoded(mended[llama.PRE]) == "llama-bpe"
    assert decoded(mended[llama.EOS]) == decoded(mended[llama.EOT]) == 128009
    new = {**old, llama.PRE: text("llama-bpe"), llama.EOS: uint32(128009)}
    assert llama.normal(new, {}) == new
    assert llama.normal({**new, "tokenizer.ggml.tokens": texts(["a"])}, {})[llama.PRE]
    other = {"tokenizer.ggml.tokens": texts(["a"]), llama.EOS: uint32(2)}
    assert llama.normal(other, {}) == other


# values


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (struct.pack("<II", 4, 7), 7),
        (struct.pack("<I?", 7, True), True),
        (struct.pack("<If", 6, 0.5), 0.5),
        (struct.pack("<IIQ3i", 9, 5, 3, 1, -2, 3), [1, -2, 3]),
        (struct.pack("<IQ", 8, 3) + b"abc", "abc"),
        (struct.pack("<IIQQ", 9, 8, 1, 2) + "é".encode(), ["é"]),
    ],
)
def test_a_value_is_decoded(raw, value):
    assert decoded(raw) == value


def test_a_key_that_is_missing_or_damaged_is_named(tmp_path):
    key = keys(write_gguf(tmp_path / "base.gguf"))
    with pytest.raises(BadInput, match=r"lacks the key llama\.block_count"):
        key("block_count")
    assert key("block_count", 9) == 9
    assert key("rope.freq_base") == 10000.0
    assert key.shape("blk.0.a") == (ROWS, WIDTH)
    assert key.shape("blk.7.a") is None
    assert key.numbers("blk.0.n") == pytest.approx(list(NORM))


# what a type keeps of the training


@pytest.mark.parametrize(
    ("before", "tuned", "after", "kept"),
    [(4.66, 3.23, 4.324, 0.235), (4.66, 3.23, 3.23, 1.0), (3.0, 3.2, 3.1, 1.0)],
)
def test_what_is_kept_is_a_share_of_the_gain(before, tuned, after, kept):
    assert losses.kept(before, tuned, after) == pytest.approx(kept, abs=1e-3)


def test_a_gemma_4_of_a_billion_layers_is_refused_before_anything_is_made_for_them(tmp_path):
    from pipeline.bases.families import gemma4

    found = {
        "gemma4.block_count": uint32(1_000_000_000),
        "gemma4.attention.shared_kv_layers": uint32(999_999_999),
    }
    assert gemma4.unread(found) == ()
    found["gemma4.block_count"] = uint32(3)
    found["gemma4.attention.shared_kv_layers"] = uint32(1)
    assert gemma4.unread(found) == ("blk.2.attn_k.", "blk.2.attn_v.", "blk.2.attn_k_norm.")
