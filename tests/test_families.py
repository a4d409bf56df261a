"""What a family decides is pinned, and is what its checkpoints are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_base
from decided import GOLDEN, decided, golden, told
from families import FAMILIES as TINY
from families import ROPE, family_directory
from safetensors.numpy import save_file

from pipeline.bases import architecture, checkpoint, families, reference
from pipeline.bases.families.family import Family
from pipeline.bases.gguf_keys import Keys
from pipeline.bases.reference import resolve
from pipeline.common.errors import BadInput
from pipeline.made.stage import Where
from pipeline.stages import fetch
from pipeline.stages.fetching import outlines
from pipeline.stages.settings import Fetch
from pipeline.tools import outline
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.gguf_layout import layout

every = pytest.mark.parametrize("family", families.FAMILIES, ids=lambda f: f.architecture)


def known(family: Family) -> dict[str, Any]:
    """Its golden file."""
    file = golden(family)
    assert file.exists(), f"none yet: python tests/decided.py {family.architecture}, and read it"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def test_a_golden_file_is_of_a_family_that_there_is() -> None:
    names = {file.stem for file in GOLDEN.glob("*.json")}
    assert names == set(families.supported())


@every
def test_all_that_a_family_decides_is_as_it_was(family: Family) -> None:
    found = known(family)
    assert decided(family, found["config"], found["tensors"]) == found["decided"]


@every
def test_its_checkpoint_is_taken_and_one_of_other_shapes_is_not(
    family: Family, tmp_path: Path
) -> None:
    found = known(family)
    shapes = {n: [int(side) for side in s.split(" x ")] for n, s in found["tensors"].items()}
    random = np.random.default_rng(7)
    weights = {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(found["config"]))
    for name in ("tokenizer.json", *family.needs):
        (tmp_path / name).write_text("{}")
    assert checkpoint.check(tmp_path) == found["config"]
    for name in found["decided"]["shapes"]:
        save_file({**weights, name: weights[name][1:].copy()}, tmp_path / "model.safetensors")
        with pytest.raises(BadInput, match=f"by config.json {name} has the shape"):
            checkpoint.check(tmp_path)


@every
def test_every_matrix_has_its_shape_checked_and_every_target_is_there(family: Family) -> None:
    found = known(family)
    matrices = {name: shape for name, shape in found["tensors"].items() if " x " in shape}
    matrices.pop("lm_head.weight", None)
    assert found["decided"]["shapes"] == matrices
    adapted = {name.split(".")[-2] for name in found["decided"]["adapted"]}
    assert adapted == set(family.targets)


@pytest.mark.parametrize("name", families.in_gguf())
def test_a_config_read_from_the_converters_keys_is_the_checkpoints_own(name: str) -> None:
    family = families.of_gguf(name)
    assert family and family.gguf
    found = known(family)
    config = {**found["config"], **found["config"]["rope_parameters"]}
    read = {key: value for key, value in found["config from a gguf"].items() if key in config}
    assert len(read) > 8
    assert read == {key: config[key] for key in read}


@pytest.mark.smoke
@pytest.mark.filterwarnings("default")  # transformers imports what warns
@every
def test_its_checkpoint_and_outline_are_those_of_transformers_and_the_converter(
    family: Family, tmp_path: Path
) -> None:
    assert told(family, tmp_path / "tiny") == known(family)


# What is allowed is carried over; what is not carried over is refused.

SCALED = {"linear": {"rope_type": "linear", "factor": 4.0}, "llama3": ROPE}


def scaled(family: Family, kind: str) -> dict[str, Any]:
    """rope_parameters of a family, with a scaling of positions where it may have one."""
    table = {**SCALED[kind], "rope_theta": 1e4}
    plain = {"rope_type": "default", "rope_theta": 1e4}
    nested = {"full_attention": table, "sliding_attention": plain}
    return nested if "sliding_attention" in family.attention else table


@pytest.mark.smoke
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("family", "kind"),
    [(f, kind) for f in families.FAMILIES for kind in f.scalings if kind in SCALED],
    ids=lambda value: getattr(value, "architecture", value),
)
def test_a_scaling_that_a_family_may_have_is_in_what_the_converter_writes(
    family: Family, kind: str, tmp_path: Path
) -> None:
    tiny = next(name for name, (model_type, *_) in TINY.items() if model_type == family.model_type)
    folder, vocab = tmp_path / "tiny", tmp_path / "v.gguf"
    family_directory(tiny, folder, num_hidden_layers=1, rope_parameters=scaled(family, kind))
    found = outlines.write_outline(folder, vocab, tmp_path / "o.json", name="tiny")
    keys = Keys(vocab, layout(vocab)).names()
    tensors = [tensor.name for tensor in found.tensors]
    assert "rope.scaling.factor" in keys or "rope_freqs.weight" in tensors


@every
def test_a_scaling_that_the_converter_would_leave_out_is_refused(
    family: Family, tmp_path: Path
) -> None:
    for kind in SCALED.keys() - family.scalings.keys():
        config = {**known(family)["config"], "rope_parameters": scaled(family, kind)}
        with pytest.raises(BadInput, match=f"position scaling '{kind}' is not supported"):
            architecture.check(tmp_path, config)


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({}, True),  # unsaid: transformers takes 4096, llama.cpp none
        ({"sliding_window": 4096}, True),
        ({"sliding_window": None}, False),
        ({"sliding_window": 32768}, False),
        ({"max_position_embeddings": 4096}, False),
    ],
)
def test_a_window_that_llama_cpp_does_not_compute_is_refused_if_a_text_can_be_longer(
    values: dict[str, Any], refused: bool, tmp_path: Path
) -> None:
    family = families.of("MistralForCausalLM")
    config = {**known(family)["config"], "max_position_embeddings": 32768}
    del config["sliding_window"]
    found = family.fault({**config, **values})
    assert bool(found) == refused
    assert not refused or "4096 tokens" in found


# A family is one value and a line in FAMILIES; an origin one value and a line in ORIGINS.


def test_a_toy_family_and_a_toy_origin_need_no_line_anywhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeOllama
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", fake.address.netloc)  # else one is started
    toy_base.directory(tmp_path / "shelf" / "small")
    with pytest.raises(BadInput, match="Ollama"):
        resolve("toy:small", tmp_path)
    monkeypatch.setattr(reference, "ORIGINS", (toy_base.ORIGIN, *reference.ORIGINS))
    with pytest.raises(BadInput, match="ArceeForCausalLM is not supported"):
        resolve("toy:small", tmp_path)
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, toy_base.FAMILY))
    (tmp_path / "out").mkdir()
    base = fetch.run(tmp_path / "out", Fetch(), resolve("toy:small", tmp_path), where=Where())
    assert (base.name, base.architecture) == ("toy:small", "ArceeForCausalLM")
    assert base.license == "As the shelf says."
    assert json.loads((base.path / "config.json").read_text())["hidden_act"] == "relu2"
    outlined = outline.read(base.outline)
    assert not outlined.unknown  # it is packed in a stream
    assert "blk.1.ffn_up.weight" in {tensor.name for tensor in outlined.tensors}
    assert "gate_proj" not in families.of(base.architecture).targets


def test_a_toy_base_with_the_values_of_another_family_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, toy_base.FAMILY))
    folder = toy_base.directory(tmp_path / "toy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "silu"}))
    with pytest.raises(BadInput, match="hidden_act = 'silu'") as caught:
        resolve(str(folder), tmp_path)
    assert "relu2" in caught.value.next_step


# Those that are not taken.


def test_a_known_family_that_is_not_taken_is_refused_with_the_nearest_that_is(
    tmp_path: Path,
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    config = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="Qwen3MoeForCausalLM is not supported") as caught:
        checkpoint.check(tmp_path)
    assert "mixture of experts" in caught.value.next_step
    assert "qwen3:8b" in caught.value.next_step


def test_nothing_that_is_taken_has_a_refusal_and_the_unknown_has_none() -> None:
    taken = [*families.supported(), *families.in_gguf()]
    assert [name for name in taken if families.refusal(name)] == []
    assert families.refusal("nobody") == families.refusal(["list"]) == ""
