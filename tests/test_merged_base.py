"""A base with a LoRA adapter merged into it: named, found, merged as PEFT would, or refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from families import write_adapter

from pipeline.bases.origins import directory, hub, merged
from pipeline.bases.reference import Reference, bring, refuse_if_changed, resolve
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.made.stage import Where
from pipeline.stages import fetch
from pipeline.stages.fetching import from_huggingface
from pipeline.stages.settings import Fetch

OTHER = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"


@pytest.fixture
def adapter(tiny_directory: Path, tmp_path: Path) -> Path:
    """A random one for every linear module of the tiny base."""
    return write_adapter(tmp_path / "lora", tiny_directory, base_model_name_or_path="meta/Llama-x")


def both(base: Path, adapter: Path) -> Reference:
    return resolve(f"merged:{base}+{adapter}", Path("/"))


def written(reference: Reference, out: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    out.mkdir()
    from_huggingface.write(out, reference, Where())
    from_huggingface.write_weights(out, reference, Where())
    return dict(load_file(out / "model.safetensors"))


def test_it_is_base_and_adapter_wherever_they_lie(tiny_directory, adapter, tmp_path):
    found, plain = both(tiny_directory, adapter), resolve(str(tiny_directory), Path("/"))
    assert (found.origin, found.name) == ("merged", "tiny-random+lora")
    assert found.digest != plain.digest
    assert (found.architecture, found.parameters) == (plain.architecture, plain.parameters)
    base = Path(shutil.copytree(tiny_directory, tmp_path / "notes+/my base"))
    moved = Path(shutil.copytree(adapter, tmp_path / "elsewhere"))
    beside = resolve("merged:./notes+/my base+./elsewhere", tmp_path)
    assert beside.digest == found.digest == both(base, moved).digest


def test_what_it_changes_is_merged_in_float32_and_rounded_once(tiny_directory, adapter, tmp_path):
    import torch
    from safetensors.torch import load_file

    made = written(both(tiny_directory, adapter), tmp_path / "out")
    before = load_file(tiny_directory / "model.safetensors")
    factors = load_file(adapter / "adapter_model.safetensors")
    assert made.keys() == before.keys()
    for name, weight in before.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        wanted = weight.float()
        if f"{module}.lora_B.weight" in factors:
            b, a = (factors[f"{module}.lora_{which}.weight"] for which in "BA")
            wanted = wanted + 2 * (b @ a)  # alpha / rank
            assert not wanted.bfloat16().equal(weight.bfloat16())
        larger = torch.maximum(wanted.abs(), weight.abs().float())  # where both cancel out
        step = torch.finfo(torch.bfloat16).eps * larger
        assert ((made[name].float() - wanted).abs() <= step).all(), name


def test_a_whole_base_comes_of_it(tiny_directory, tiny_base, adapter, tmp_path):
    (tmp_path / "out").mkdir()
    base = fetch.run(tmp_path / "out", Fetch(), both(tiny_directory, adapter), where=Where())
    assert base.name == "tiny-random+lora"
    assert base.digest != tiny_base.digest
    assert base.template == tiny_base.template
    tokens = [(b.path / "tokenizer.json").read_bytes() for b in (base, tiny_base)]
    assert tokens[0] == tokens[1]


def test_the_template_that_the_adapter_was_trained_with_is_taken_and_it_is_said(
    tiny_directory, adapter, tmp_path
):
    (adapter / "chat_template.jinja").write_text(OTHER)
    shutil.copyfile(tiny_directory / "tokenizer.json", adapter / "tokenizer.json")
    said: list[str] = []
    (tmp_path / "out").mkdir()
    source = from_huggingface.write(
        tmp_path / "out", both(tiny_directory, adapter), Where(say=said.append)
    )
    assert source.template == OTHER
    assert "the chat template of lora is taken, not that of its base" in said


def test_the_base_that_an_adapter_names_need_not_be_said(tiny_directory, adapter):
    said = json.loads((adapter / "adapter_config.json").read_text())
    said["base_model_name_or_path"] = str(tiny_directory)
    (adapter / "adapter_config.json").write_text(json.dumps(said))
    found = resolve(f"merged:{adapter}", Path("/"))
    assert found.digest == both(tiny_directory, adapter).digest


def test_an_adapter_alone_says_how_it_is_merged(adapter):
    with pytest.raises(BadInput, match="no base but a LoRA adapter of meta/Llama-x") as caught:
        resolve(str(adapter), Path("/"))
    assert f"FROM merged:./base+{adapter}" in caught.value.next_step
    with pytest.raises(BadInput, match="it names meta/Llama-x, which is no folder here") as caught:
        resolve(f"merged:{adapter}", Path("/"))
    assert f"merged:./base+{adapter}" in caught.value.next_step


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("merged:", "no adapter's folder is named"),
        ("merged:./base", "is no LoRA adapter: it has no adapter_config.json"),
        ("merged:llama3.2+./lora", "neither a folder nor hub:"),
        ("merged:./x.gguf+./lora", "neither a folder nor hub:|does not exist"),
    ],
)
def test_what_is_no_base_and_adapter_is_refused(text, words, adapter):
    with pytest.raises(BadInput, match=words):
        resolve(text, adapter.parent)


def test_its_base_is_downloaded_wherever_the_adapter_is_written_from(monkeypatch) -> None:
    """A relative adapter starts at the Modelfile, which a download does not know."""
    asked: list[str] = []
    some = replace(hub.ORIGIN, bring=lambda text, report, say: asked.append(text) or "done")
    monkeypatch.setattr(merged, "BASES", (some, directory.ORIGIN))
    commit = "a" * 40
    assert bring(f"merged:hub:org/name@{commit}+./only-beside-the-modelfile") == "done"
    assert asked == [f"hub:org/name@{commit}"]
    assert bring("merged:./base+./lora") == bring("merged:./lora") == ""


def test_an_adapter_that_is_a_pickle_is_not_read(tiny_directory, adapter):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(BadInput, match=r"has no adapter_model\.safetensors"):
        both(tiny_directory, adapter)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"use_dora": True}, "it uses use_dora"),
        ({"r": 8}, "have shapes"),
        ({"modules_to_save": ["lm_head"]}, "it uses modules_to_save"),
    ],
)
def test_what_could_not_be_merged_faithfully_is_refused_before_any_weight(
    fault, words, tiny_directory, adapter, tmp_path
):
    said = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**said, **fault}))
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match=words):
        from_huggingface.write(tmp_path / "out", both(tiny_directory, adapter), Where())


def test_an_adapter_of_other_tokens_is_refused(tiny_directory, adapter, tmp_path):
    found = json.loads((tiny_directory / "tokenizer.json").read_text())
    found["added_tokens"][-1]["content"] = "<|stop|>"
    (adapter / "tokenizer.json").write_text(json.dumps(found))
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match="has another tokenizer than"):
        from_huggingface.write(tmp_path / "out", both(tiny_directory, adapter), Where())


def test_an_adapter_that_changes_nothing_is_refused(tiny_directory, adapter, tmp_path):
    from safetensors.torch import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    factors = {n: w * (0 if "lora_B" in n else 1) for n, w in load_file(file).items()}
    save_file(factors, file)
    with pytest.raises(ToolFailed, match="merging changed nothing in"):
        written(both(tiny_directory, adapter), tmp_path / "out")


def test_an_adapter_that_changes_while_it_is_read_is_refused(tiny_directory, adapter):
    reference = both(tiny_directory, adapter)
    refuse_if_changed(reference)
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match="lora changed while it was read"):
        refuse_if_changed(reference)
