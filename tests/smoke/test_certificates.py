"""A wrong config.json read from a GGUF is noticed, whichever field is wrong.

Every field of a family's config is changed; some certificate of the way back (`agree`) objects, or
the field stands in a short list with the reason why nothing that is computed depends on it.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import convert_many
import pytest
from families import FAMILIES, family_directory

from pipeline.bases import families
from pipeline.bases.gguf_keys import Keys
from pipeline.bases.text_part import TextPart, text_part
from pipeline.common.errors import PipelineError
from pipeline.common.values import read_json, write_json
from pipeline.stages.fetching import agree, from_gguf, gguf_tokenizer, hollow
from pipeline.tools import converter, outline
from pipeline.tools.gguf_layout import layout

pytestmark = [pytest.mark.smoke, pytest.mark.filterwarnings("default")]

OUTLINING = "pipeline.stages.fetching.outlining"
IDLE = {
    **dict.fromkeys(
        ("bos_token_id", "eos_token_id", "pad_token_id"), "the vocabulary says it, not config.json"
    ),
    **dict.fromkeys(
        ("attention_dropout", "embd_pdrop", "resid_pdrop"), "in training alone; read as none"
    ),
    "_sliding_window_pattern": "layer_types says which layers have a window",
    "no_rope_layer_interval": "no_rope_layers says which layers have no positions",
    "architectures": "by the family",
    "initializer_range": "of weights that are not read from a file",
    "model_type": "by the family",
    "use_cache": "how it is computed, not what",
    "hidden_act": "of a family that reads hidden_activation",
    "max_window_layers": "layer_types says which layers have a window",
    "use_sliding_window": "layer_types says which layers have a window",
    "pretraining_tp": "how it is computed, not what",
    "dtype": "the logits are compared in float32",
    "transformers_version": "who wrote it",
    "use_double_wide_mlp": "of layers that take keys of others, where there are some",
    "vocab_size_per_layer_input": "of the embedding for each layer, where there is one",
    "tie_word_embeddings": "decided by whether the file has an output matrix",
}
"""Fields whose change changes nothing that is served, or that no key decides."""


def gguf_of(name: str, folder: Path) -> Path:
    """A tiny model of a family as a GGUF: weights so large that a wrong number shows."""
    std = 0.05 if "gemma" in name else 0.15  # beyond, soft caps and rounding drown all
    layers = 8 if "gemma4" in name else 6  # of which one without and one with keys sees all
    made = family_directory(name, folder / "made", num_hidden_layers=layers, std=std)
    converter.convert(made, folder / "model.gguf", outtype="f32")
    return folder / "model.gguf"


SHOWN = [n for n in FAMILIES if "," not in n and n not in ("llama tied", "mistral")]
"""Mistral in a GGUF is a Llama."""


class Base:
    """A GGUF, and the directory that is made of it."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        found = layout(path)
        family = families.of_gguf(Keys(path, found).architecture)
        assert family and family.gguf
        self.part: TextPart = text_part(found, family.gguf)
        self.known = family.gguf
        self.family = family
        self.key = Keys(path, replace(found, keys=self.part.keys))
        folder.mkdir()
        gguf_tokenizer.write_tokenizer(self.key, folder)
        from_gguf._write_config(from_gguf.Read(family, family.gguf, self.part, self.key), folder)
        self.config = read_json(folder / "config.json")

    def hollow(self, config: dict[str, Any], to: Path) -> Path:
        """A directory of another config, without weights."""
        shutil.copytree(self.folder, to / "plain")
        write_json(to / "plain/config.json", config)
        hollow.write(to / "plain", to / "hollow")
        return to


def outlined(folders: list[Path]) -> None:
    """The outlines of many hollow directories, by one child."""
    jobs = [
        [OUTLINING, str(f / "hollow"), "x", str(f / "keys.gguf"), str(f / "outline.json"), ""]
        for f in folders
    ]
    convert_many.run(jobs)


def others(value: Any) -> list[Any]:
    """Values that might stand there instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value * 2 or 1]
    if isinstance(value, float):
        return [value * 1.5 + 0.125]
    if isinstance(value, str):
        return {"silu": ["gelu"], "gelu_pytorch_tanh": ["relu"]}.get(value, ["another"])
    if isinstance(value, list) and len(value) > 1:
        kinds = {"full_attention": "sliding_attention"}
        return [[kinds.get(value[0], "full_attention"), *value[1:]], value[:-1]]
    return []


def mutations(config: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """For each field, and each in its tables, configs in which it alone is another."""
    found: dict[str, list[dict[str, Any]]] = {}
    for field, value in config.items():
        if isinstance(value, dict):
            for inner, values in mutations(value).items():
                found[f"{field}.{inner}"] = [{**config, field: each} for each in values]
        else:
            found[field] = [{**config, field: other} for other in others(value)]
    return {field: configs for field, configs in found.items() if configs}


def whole_config(base: Base) -> dict[str, Any]:
    """What was read from the keys, and what transformers takes where these say nothing."""
    from transformers import AutoConfig

    every = AutoConfig.for_model(**base.config).to_dict()
    plain = AutoConfig.for_model(base.family.model_type).__class__.__mro__[1]().to_dict()
    # all in rope_parameters; and what a layer of Gemma 4 has follows from what was read
    twice = ("rope_theta", "rope_scaling", "partial_rotary_factor", "per_layer_config")
    found = {**{key: value for key, value in every.items() if key not in plain}, **base.config}
    return {key: value for key, value in found.items() if key not in twice}


def computes_the_same(base: Base, config: dict[str, Any], weights: Path) -> bool:
    """Whether the logits object to nothing."""
    write_json(weights / "config.json", config)
    try:
        agree.check_logits(weights, base.path, base.key, 2)
    except Exception:  # whatever it is, nothing is trained
        return False
    return True


def has_the_same_form(base: Base, folder: Path) -> bool:
    """Whether tensors and keys object to nothing."""
    found = outline.read(folder / "outline.json")
    try:
        agree.check_tensors(base.part, found, base.key)
        agree.check_keys(base.key, Keys(folder, layout(folder / "keys.gguf")), base.known)
    except PipelineError:
        return False
    return True


@pytest.mark.parametrize("name", SHOWN)
def test_every_wrong_field_is_noticed(name: str, tmp_path: Path) -> None:
    base = Base(gguf_of(name, tmp_path), tmp_path / "read")
    made = tmp_path / "made"
    right = base.hollow(base.config, tmp_path / "worlds/right")
    assert computes_the_same(base, base.config, made)
    changed = mutations(whole_config(base))
    fields = changed.keys() - (IDLE.keys() - needed(base))
    assert len(fields) > 10
    worlds: dict[str, Path] = {}
    for field in sorted(fields):
        for i, config in enumerate(changed[field]):
            if computes_the_same(base, config, made):
                try:
                    to = tmp_path / "worlds" / f"{field}-{i}"
                    worlds[f"{field} {i}"] = base.hollow(config, to)
                except PipelineError:  # transformers refuses it: noticed
                    continue
    outlined([right, *worlds.values()])
    assert has_the_same_form(base, right)
    assert [field for field, to in worlds.items() if has_the_same_form(base, to)] == []


def needed(base: Base) -> set[str]:
    """What decides here although it does not elsewhere."""
    where = {
        "hidden_act": "hidden_activation" not in base.config,
        "use_double_wide_mlp": base.config.get("num_kv_shared_layers"),
        "vocab_size_per_layer_input": base.config.get("hidden_size_per_layer_input"),
    }
    return {field for field, decides in where.items() if decides}
