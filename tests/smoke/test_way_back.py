"""A wrong config.json read from a GGUF is noticed, whichever field is wrong.

Every field of a family's config is changed; some certificate of the way back (`agree`) objects, or
the field stands in a short list with the reason why nothing that is computed depends on it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES, family_directory

from pipeline.bases import families
from pipeline.bases.gguf_keys import Keys
from pipeline.bases.text_part import TextPart, text_part
from pipeline.common.errors import PipelineError
from pipeline.common.values import read_json, write_json
from pipeline.stages.fetching import agree, from_gguf, skeleton
from pipeline.tools import converter, outline
from pipeline.tools.gguf_layout import layout

pytestmark = [pytest.mark.smoke, pytest.mark.filterwarnings("default")]

MANY = Path(__file__).parent / "convert_many.py"
OUTLINING = "pipeline.stages.fetching.outlining"
IDLE = {
    **dict.fromkeys(
        ("bos_token_id", "eos_token_id", "pad_token_id"), "the vocabulary says it, not config.json"
    ),
    "attention_dropout": "in training alone, and the trainer's own decision",
    "architectures": "by the family",
    "initializer_range": "of weights that are not read from a file",
    "model_type": "by the family",
    "use_cache": "how it is computed, not what",
    "pretraining_tp": "how it is computed, not what",
    "dtype": "the logits are compared in float32",
    "transformers_version": "who wrote it",
    "tie_word_embeddings": "decided by whether the file has an output matrix",
}
"""Fields whose change changes nothing that is served, or that no key decides."""


def gguf_of(name: str, folder: Path) -> Path:
    """A tiny model of a family as a GGUF: weights so large that a wrong number shows."""
    made = family_directory(name, folder / "made", num_hidden_layers=6)
    converter.convert(made, folder / "model.gguf", outtype="f32")
    return folder / "model.gguf"


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
        from_gguf._write_config(from_gguf.Read(family, family.gguf, self.part, self.key), folder)
        self.config = read_json(folder / "config.json")

    def hollow(self, config: dict[str, Any], to: Path) -> Path:
        """A directory of another config, without weights."""
        (to / "plain").mkdir(parents=True)
        write_json(to / "plain/config.json", config)
        skeleton.write(to / "plain", to / "hollow")
        return to


def outlined(folders: list[Path]) -> None:
    """The outlines of many hollow directories, by one child."""
    jobs = [
        [OUTLINING, str(f / "hollow"), "x", str(f / "keys.gguf"), str(f / "outline.json"), ""]
        for f in folders
    ]
    subprocess.run(
        [sys.executable, str(MANY)],
        input=json.dumps(jobs),
        text=True,
        check=True,
        capture_output=True,
        env=converter._environment(),
    )


def others(value: Any) -> list[Any]:
    """Values that might stand there instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value * 2, value + 1]
    if isinstance(value, float):
        return [value * 1.5 + 0.125]
    if isinstance(value, str):
        return {"silu": ["gelu"], "gelu_pytorch_tanh": ["relu"]}.get(value, ["another"])
    if isinstance(value, list) and len(value) > 1:
        return [[*reversed(value)], value[:-1]]
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
    read = {k: v for k, v in base.config.items() if k not in ("rope_theta", "rope_scaling")}
    return {**{k: v for k, v in every.items() if k not in plain}, **read}  # rope_parameters in one


def objection(base: Base, folder: Path, weights: Path) -> str:
    """What a certificate says against a config; '' if none does."""
    try:
        if (folder / "outline.json").exists():
            found = outline.read(folder / "outline.json")
            agree.check_tensors(base.part, found, base.key)
            agree.check_keys(base.key, Keys(folder, layout(folder / "keys.gguf")), base.known)
        shutil.copyfile(folder / "plain/config.json", weights / "config.json")
        agree.check_logits(weights, base.path, base.key, 2)
    except Exception as error:  # whatever it is, nothing is trained
        return str(error) or type(error).__name__
    return ""


@pytest.mark.parametrize("name", [n for n in FAMILIES if "," not in n and "sharded" not in n])
def test_every_wrong_field_is_noticed(name: str, tmp_path: Path) -> None:
    base = Base(gguf_of(name, tmp_path), tmp_path / "read")
    made = tmp_path / "made"
    config = whole_config(base)
    worlds: dict[str, list[Path]] = {}
    for field, configs in {"": [base.config], **mutations(config)}.items():
        if field in IDLE:
            continue
        for i, changed in enumerate(configs):
            to = tmp_path / "worlds" / f"{field or 'none'}-{i}"
            try:
                worlds.setdefault(field, []).append(base.hollow(changed, to))
            except PipelineError:  # transformers refuses it: noticed
                continue
    outlined([to for folders in worlds.values() for to in folders])
    assert objection(base, worlds.pop("")[0], made) == ""
    silent = {
        field: [to.name for to in folders if not objection(base, to, made)]
        for field, folders in worlds.items()
    }
    assert {field: names for field, names in silent.items() if names} == {}
