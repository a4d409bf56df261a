"""Packing: what cannot be merged rightly is refused by name, and no half file is left behind."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import write_adapter
from safetensors.numpy import load_file, save_file

from pipeline.common.errors import BadInput, ToolFailed
from pipeline.common.progress import Progress
from pipeline.made.artifacts import Base
from pipeline.stages import pack
from pipeline.stages.packing import arithmetic, kernels, stream
from pipeline.stages.packing.adapter import opened_adapter
from pipeline.stages.packing.merged import Merged
from pipeline.stages.packing.target import in_order, merge_dtype, target
from pipeline.stages.packing.weights import opened
from pipeline.tools import llamacpp, outline
from pipeline.tools.gguf_header import Entry, header
from pipeline.tools.gguf_layout import layout
from pipeline.tools.gguf_values import uint32
from pipeline.tools.outline import Outline, Tensor

Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def adapter(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA on every linear module of the tiny base. Read it, never write to it."""
    return write_adapter(tmp_path_factory.mktemp("adapter") / "lora", tiny_base.path)


def packed(base: Base, adapter: Path, out: Path, *types: str, **more: Any) -> list[Path]:
    known = outline.read(base.outline)
    files = [out / f"{name}.gguf" for name in types]
    targets = {
        file: target(known, base.vocab, name, out) for file, name in zip(files, types, strict=True)
    }
    stream.write(opened(base.weights), adapter, in_order(known), targets, threads=2, **more)
    return files


def changed(adapter: Path, to: Path, **config: Any) -> Path:
    """A copy with other lines in its config."""
    shutil.copytree(adapter, to)
    written = json.loads((to / "adapter_config.json").read_text())
    (to / "adapter_config.json").write_text(json.dumps({**written, **config}))
    return to


def edited(folder: Path, to: Path, name: str, row: int, value: float) -> Path:
    """A copy of an adapter or of a base's directory with one weight changed."""
    import torch
    from safetensors.torch import load_file as load
    from safetensors.torch import save_file as save

    shutil.copytree(folder, to)
    (file,) = to.glob("*.safetensors")
    tensors = load(file)
    with torch.no_grad():
        tensors[name][row, 3] = value
    save(tensors, file, metadata={"format": "pt"})
    return to


# the files


def test_a_file_opens_in_llama_cpp_and_computes_what_its_weights_say(tiny_base, adapter, tmp_path):
    (file,) = packed(tiny_base, adapter, tmp_path, "Q8_0")
    with llamacpp.Model(file, weights=True) as model:
        logits = model.logits([1, 40, 50, 60], threads=1)
    assert np.isfinite(logits).all()
    assert logits.std() > 0.01


def test_several_types_of_one_reading_are_what_each_would_be_alone(tiny_base, adapter, tmp_path):
    (tmp_path / "alone").mkdir()
    together = packed(tiny_base, adapter, tmp_path, "Q4_K_M", "Q8_0", "BF16")
    for file in together:
        (alone,) = packed(tiny_base, adapter, tmp_path / "alone", file.stem)
        assert file.read_bytes() == alone.read_bytes()


def test_the_bytes_do_not_depend_on_threads_or_blocks(tiny_base, adapter, tmp_path, monkeypatch):
    (tmp_path / "small").mkdir()
    (whole,) = packed(tiny_base, adapter, tmp_path, "Q6_K")
    monkeypatch.setattr(stream, "BLOCK", 1 << 13)
    (blocks,) = packed(tiny_base, adapter, tmp_path / "small", "Q6_K")
    assert whole.read_bytes() == blocks.read_bytes()


@pytest.mark.parametrize("quantization", ["Q4_K_M", "Q8_0", "F16", "BF16"])
def test_without_numba_the_bytes_are_the_same(
    tiny_base, adapter, tmp_path, monkeypatch, quantization
):
    (tmp_path / "plain").mkdir()
    (compiled,) = packed(tiny_base, adapter, tmp_path, quantization)
    monkeypatch.setattr(kernels, "available", lambda: False)
    (plain,) = packed(tiny_base, adapter, tmp_path / "plain", quantization)
    assert compiled.read_bytes() == plain.read_bytes()


def test_progress_is_in_bytes_and_ends_at_the_size_of_the_file(tiny_base, adapter, tmp_path):
    seen: list[Progress] = []
    (file,) = packed(tiny_base, adapter, tmp_path, "Q8_0", report=seen.append)
    assert seen[-1].done == seen[-1].total == file.stat().st_size
    assert [p.done for p in seen] == sorted(p.done for p in seen)


def test_tensors_stand_by_layer_then_by_name():
    names = ["blk.10.a", "output.weight", "blk.2.b", "blk.2.a", "output_norm.weight"]
    tensors = tuple(Tensor(name=n, shape=(1,), kind="F32", source=n) for n in names)
    found = [t.name for t in in_order(Outline(tensors=tensors, unknown=""))]
    assert found == ["output.weight", "output_norm.weight", "blk.2.a", "blk.2.b", "blk.10.a"]


def test_a_header_is_read_back_as_it_was_meant(tmp_path):
    entries = [Entry("a", "Q8_0", (3, 64)), Entry("b", "F32", (5,))]
    front = header({"general.file_type": uint32(7)}, entries)
    (tmp_path / "x.gguf").write_bytes(front + bytes(204 + 20) + bytes(20))
    found = layout(tmp_path / "x.gguf")
    assert found.keys == {"general.file_type": uint32(7)}
    assert [(n, p.kind, p.shape, p.size) for n, p in found.tensors.items()] == [
        ("a", "Q8_0", (64, 3), 204),
        ("b", "F32", (5,), 20),
    ]
    assert all((place.start % 32) == 0 for place in found.tensors.values())


# what is refused


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"lora_bias": True}, "lora_bias"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is pissa"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"trainable_token_indices": [5]}, "trainable_token_indices"),
        ({"something_of_next_year": {"a": 1}}, "something_of_next_year"),
        ({"peft_type": "IA3"}, "the kind IA3"),
        ({"r": 8}, "shapes"),
    ],
)
def test_an_adapter_that_is_no_plain_lora_is_refused_by_name(
    tiny_base, adapter, tmp_path, config, named
):
    other = changed(adapter, tmp_path / "other", **config)
    with pytest.raises(BadInput, match=named):
        packed(tiny_base, other, tmp_path, "Q8_0")
    assert list(tmp_path.glob("*.gguf")) == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (f"{Q}.lora_A.weight", f"{Q}.lora_magnitude_vector", "it holds .*lora_magnitude_vector"),
        (f"{Q}.lora_A.weight", "model.embed_tokens.lora_embedding_A", "it holds .*embedding_A"),
        (f"{Q}.lora_A.weight", None, "it lacks .*q_proj.lora_A"),
        (f"{Q}.lora_A.weight", "model.layers.9.x.lora_A.weight", "layers.9.x|it lacks"),
    ],
)
def test_a_tensor_that_would_not_be_merged_is_refused_by_name(
    tiny_base, adapter, tmp_path, old, new, named
):
    other = changed(adapter, tmp_path / "other")
    factors = load_file(other / "adapter_model.safetensors")
    taken = factors.pop(f"base_model.model.{old}")
    if new:
        factors[f"base_model.model.{new}"] = taken
    save_file(factors, other / "adapter_model.safetensors")
    with pytest.raises(BadInput, match=named):
        packed(tiny_base, other, tmp_path, "Q8_0")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_of_the_base_that_is_no_number_is_named_with_its_row(
    tiny_base, adapter, tmp_path, value
):
    folder = edited(tiny_base.path, tmp_path / "bad", f"{Q}.weight", 77, value)
    bad = tiny_base.model_copy(update={"path": folder})
    with pytest.raises(ToolFailed, match=rf"{Q}.weight of the base .* in row 77"):
        packed(bad, adapter, tmp_path, "Q4_K_M")
    assert list(tmp_path.glob("*.gguf*")) == list(tmp_path.glob(".*gguf*")) == []


@pytest.mark.parametrize(("factor", "row"), [("lora_A", 5), ("lora_B", 200)])
def test_a_factor_of_the_adapter_that_is_no_number_is_named_with_its_row(
    tiny_base, adapter, tmp_path, factor, row
):
    name = f"base_model.model.{Q}.{factor}.weight"
    bad = edited(adapter, tmp_path / "bad", name, row, float("nan"))
    with pytest.raises(ToolFailed, match=rf"{Q}.{factor}.weight of the adapter .* in row {row}"):
        packed(tiny_base, bad, tmp_path, "Q8_0")


def test_a_weight_that_is_too_large_for_16_bit_is_refused(tiny_base, adapter, tmp_path):
    name = f"base_model.model.{Q}.lora_B.weight"
    bad = edited(adapter, tmp_path / "bad", name, 9, 1e9)
    with pytest.raises(
        ToolFailed, match=f"row 9 of {Q}.weight holds a weight that is too large for F16"
    ):
        packed(tiny_base, bad, tmp_path, "Q8_0")
    packed(tiny_base, bad, tmp_path, "BF16")


def test_a_module_that_merging_does_not_change_is_an_error(tiny_base, adapter, tmp_path):
    other = changed(adapter, tmp_path / "other")
    factors = load_file(other / "adapter_model.safetensors")
    factors[f"base_model.model.{Q}.lora_B.weight"] *= 1e-15
    save_file(factors, other / "adapter_model.safetensors")
    with pytest.raises(ToolFailed, match=f"merging changed nothing in {Q}.weight"):
        packed(tiny_base, other, tmp_path, "Q8_0")
    assert list(tmp_path.glob("*.gguf")) == []


def test_a_disk_without_room_is_said_before_anything_is_written(
    tiny_base, adapter, tmp_path, monkeypatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 70_000_000 - 1_000_000))
    with pytest.raises(ToolFailed, match="the disk is full: packing takes"):
        packed(tiny_base, adapter, tmp_path, "F16", "BF16")
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_when_packing_fails(tiny_base, adapter, tmp_path):
    (file,) = packed(tiny_base, adapter, tmp_path, "Q8_0")
    before = file.read_bytes()
    bad = edited(adapter, tmp_path / "bad", f"base_model.model.{Q}.lora_B.weight", 9, np.nan)
    with pytest.raises(ToolFailed):
        packed(tiny_base, bad, tmp_path, "Q8_0")
    assert file.read_bytes() == before


# the merge


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 8.0),
        ({"alpha_pattern": {"q_proj": 4}}, 0.25),
        ({"alpha_pattern": {"layers.0.self_attn.q_proj": 4}}, 0.25),
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 4}}, 2.0),
        ({"alpha_pattern": {"roj": 4}}, 2.0),
    ],
)
def test_the_scale_is_that_of_the_module(tiny_base, adapter, tmp_path, config, scale):
    other = changed(adapter, tmp_path / "other", **config)
    with opened(tiny_base.weights) as weights, opened_adapter(other, weights) as loras:
        assert loras[f"{Q}.weight"].scale == scale


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_an_adapter_in_16_bit_is_the_same_numbers_in_float32(tiny_base, adapter, tmp_path, kind):
    import torch
    from safetensors.torch import load_file as load
    from safetensors.torch import save_file as save

    files = []
    for dtype in (getattr(torch, kind), torch.float32):
        folder = shutil.copytree(adapter, tmp_path / str(dtype))
        (file,) = folder.glob("*.safetensors")
        rounded = {n: t.to(getattr(torch, kind)).to(dtype) for n, t in load(file).items()}
        save(rounded, file, metadata={"format": "pt"})
        files += packed(tiny_base, folder, folder, "Q8_0")
    assert files[0].read_bytes() == files[1].read_bytes()


def test_only_what_the_adapter_changes_is_rounded(tiny_base, adapter):
    with opened(tiny_base.weights) as weights, opened_adapter(adapter, weights) as loras:
        merged = Merged(weights, loras)
        embedding = merged.whole("model.embed_tokens.weight", kind="F16")
        changed = merged.whole(f"{Q}.weight", kind="F16")
        assert (
            embedding == Merged(weights, {}).whole("model.embed_tokens.weight", kind="F32")
        ).all()
    assert (changed == changed.astype(np.float16).astype(np.float32)).all()


def test_a_weight_is_the_same_in_blocks_and_in_one(tiny_base, adapter, monkeypatch):
    name = f"{Q}.weight"
    with opened(tiny_base.weights) as weights, opened_adapter(adapter, weights) as loras:
        rows = weights.tensors[name].shape[0]
        (one,) = Merged(weights, loras).source_rows(name, 0, rows, ["F16"]).values()
        monkeypatch.setattr("pipeline.stages.packing.merged.BLOCK", 5 * one.shape[1])
        merged = Merged(weights, loras)
        assert (merged.whole(name, kind="F16") == one).all()
        assert (merged.whole(name, 3, 17, kind="F16") == one[3:17]).all()


def test_a_file_of_floats_is_rounded_once_to_its_own_type():
    assert [merge_dtype(name) for name in ("F32", "BF16", "F16", "Q8_0", "Q4_K_M")] == [
        *("F32", "BF16", "F16", "F16", "F16")
    ]


def test_the_update_is_summed_in_float32_over_the_rank_in_order():
    random = np.random.default_rng(3)
    weights = random.normal(0, 1, (37, 96)).astype(np.float32)
    a = random.normal(0, 1, (13, 96)).astype(np.float32)
    b = random.normal(0, 1, (37, 13)).astype(np.float32)
    expected = np.zeros_like(weights)
    for rank in range(13):
        expected = expected + b[:, rank, None] * a[rank]
    expected = weights + np.float32(0.3) * expected
    arithmetic.add_update(weights, b, a, 0.3)
    assert (weights == expected).all()


# what the converter does


def numbered(*shape: int) -> Any:
    from pipeline.stages.fetching.outlining import _numbered

    return _numbered(shape)()


def explained(result: Any, *shape: int) -> tuple[tuple[int, ...], float] | None:
    from pipeline.stages.fetching.outlining import _rows

    return _rows(result, shape)


@pytest.mark.parametrize("shape", [(64, 64), (8192,), (8192, 2048), (28672, 8192)])
def test_no_two_tensors_of_a_shape_hold_the_same(shape: tuple[int, ...]) -> None:
    from pipeline.stages.fetching.outlining import _marks, _numbered, _rows

    count = 160  # gate and up of the 80 layers of a model of 70 billion weights
    marks = _marks({f"{i}": shape for i in range(count)})
    assert len({*marks.values()}) == count
    for mark in (0, 100, max(marks.values())):
        assert _rows(_numbered(shape, mark)(), shape, mark) == ((), 0.0)


def test_every_row_of_a_large_vocabulary_is_counted() -> None:
    assert explained(numbered(524_288, 64) + 1, 524_288, 64) == ((), 1.0)


def test_a_renamed_tensor_is_as_it_was() -> None:
    assert explained(numbered(6, 100), 6, 100) == ((), 0.0)
    assert explained(numbered(6), 6) == ((), 0.0)


def test_rows_in_another_order_are_a_block_that_repeats_itself() -> None:
    heads = numbered(16, 100).reshape(2, 2, 4, 2).swapaxes(1, 2).reshape(16, 2)
    assert explained(heads, 16, 100) == ((0, 4, 1, 5, 2, 6, 3, 7), 0.0)
    assert explained(numbered(6, 100).flip(0), 6, 100) == ((5, 4, 3, 2, 1, 0), 0.0)


def test_an_added_constant_and_rows_cut_off_at_the_end_are_seen() -> None:
    assert explained(numbered(6) + 1, 6) == ((), 1.0)
    assert explained(numbered(6, 100)[:4], 6, 100) == ((), 0.0)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w * 2,
        lambda w: -w,
        lambda w: w.flip(1),
        lambda w: w.T,
        lambda w: w[[0, 0, 1, 2, 3, 4]],
        lambda w: w[2:],
        lambda w: w.exp(),
        lambda w: w[:, :1],
        lambda w: w[None],
    ],
)
def test_whatever_else_is_done_to_a_tensor_is_not_taken_for_that(change: Any) -> None:
    assert explained(change(numbered(6, 100)), 6, 100) is None


def test_an_update_that_survives_one_type_and_not_the_other_is_an_error(
    tiny_base, adapter, tmp_path
):
    other = changed(adapter, tmp_path / "other")
    factors = load_file(other / "adapter_model.safetensors")
    factors[f"base_model.model.{Q}.lora_B.weight"] *= 1e-8
    save_file(factors, other / "adapter_model.safetensors")
    packed(tiny_base, other, tmp_path, "F32")
    for types in (("BF16", "F32"), ("F32", "BF16")):
        with pytest.raises(ToolFailed, match=f"changed nothing in {Q}.weight, stored as BF16"):
            packed(tiny_base, other, tmp_path, *types)


def test_every_type_that_is_offered_can_be_planned(tiny_base, tmp_path):
    known = outline.read(tiny_base.outline)
    for name in llamacpp.quantization_types():
        planned = target(known, tiny_base.vocab, name, tmp_path)
        assert planned.entries.keys() == {tensor.name for tensor in known.tensors}, name


def test_what_serves_instead_of_the_kernels_is_said(tiny_base, tmp_path, monkeypatch):
    known = outline.read(tiny_base.outline)
    planned = [target(known, tiny_base.vocab, "Q4_K_M", tmp_path)]
    assert pack._without_kernels(planned) == ""
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "trusted", lambda kind: kind != "Q6_K")
        assert pack._without_kernels(planned) == "ours makes other bytes of Q6_K here"
    with monkeypatch.context() as patch:
        patch.setattr(arithmetic, "_agree", lambda: False)
        assert "other bits than numpy" in pack._without_kernels(planned)
    monkeypatch.setattr(kernels, "missing", lambda: "No module named 'numba'")
    assert pack._without_kernels(planned) == "No module named 'numba'"


def test_a_kernel_that_is_not_trusted_is_not_used(tiny_base, adapter, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (ours,) = packed(tiny_base, adapter, tmp_path, "Q4_K_M")
    monkeypatch.setattr(kernels, "trusted", lambda kind: False)
    monkeypatch.setattr(kernels, "quantizer", lambda kind: pytest.fail("used"))
    (theirs,) = packed(tiny_base, adapter, tmp_path / "other", "Q4_K_M")
    assert ours.read_bytes() == theirs.read_bytes()
