"""FROM finds a base by its content, and refuses by name what cannot be tuned and served."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.bases.formats import gguf
from pipeline.bases.origins import embedded
from pipeline.bases.reference import refuse_if_changed, resolve
from pipeline.common import places
from pipeline.common.errors import BadInput, Missing
from pipeline.tools import smallest


@pytest.fixture
def base(tiny_directory: Path, tmp_path: Path) -> Path:
    """A copy of the tiny directory that a test may spoil."""
    return Path(shutil.copytree(tiny_directory, tmp_path / "base"))


def change(path: Path, **values: object) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


def refused(folder: Path) -> BadInput:
    with pytest.raises(BadInput) as caught:
        resolve(str(folder), Path("/"))
    assert caught.value.next_step
    return caught.value


def test_a_directory_is_known_by_its_own_words(base):
    found = resolve(str(base), Path("/"))
    assert (found.origin, found.format) == ("directory", "huggingface")
    assert (found.name, found.path) == ("base", base)
    assert (found.architecture, found.context) == ("LlamaForCausalLM", 4096)
    assert found.parameters == 1_286_656


@pytest.mark.parametrize("text", ["./base", "../{parent}/base", ".", "{base}", "~/base"])
def test_paths_start_at_the_modelfile_at_the_root_or_at_home(base, monkeypatch, text):
    monkeypatch.setenv("HOME", str(base.parent))
    beside = base if text == "." else base.parent
    text = text.format(base=base, parent=base.parent.name)
    assert resolve(text, beside).path == base


def test_the_same_content_elsewhere_is_the_same_base(base, tiny_directory):
    (base / "README.md").write_text("another card")
    one, other = (resolve(str(folder), Path("/")) for folder in (base, tiny_directory))
    assert one.digest == other.digest


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_changed_file_is_another_base(base, name):
    first = resolve(str(base), Path("/")).digest
    (base / name).write_text((base / name).read_text() + "\n")
    assert resolve(str(base), Path("/")).digest != first


def test_a_changed_weight_is_another_base(base):
    first = resolve(str(base), Path("/")).digest
    with (base / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\x00\x00\x00\x40")
    assert resolve(str(base), Path("/")).digest != first


def test_a_base_seen_before_is_found_in_a_moment_without_heavy_imports(tiny_directory):
    code = (
        "import sys, time; from pathlib import Path; from pipeline.bases.reference import resolve\n"
        f"resolve({str(tiny_directory)!r}, Path('/')); start = time.perf_counter()\n"
        f"resolve({str(tiny_directory)!r}, Path('/')); print(time.perf_counter() - start)\n"
        "print(sorted({'torch', 'gguf', 'transformers', 'numpy', 'llama_cpp'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = run.stdout.splitlines()
    assert float(seconds) < 0.05
    assert heavy == "[]"


def test_output_weights_that_are_the_input_embedding_count_once(base):
    from safetensors.numpy import load_file, save_file

    count = resolve(str(base), Path("/")).parameters
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].copy()
    save_file(weights, base / "model.safetensors")
    assert resolve(str(base), Path("/")).parameters == count
    change(base / "config.json", tie_word_embeddings=False)
    more = weights["lm_head.weight"].size
    assert resolve(str(base), Path("/")).parameters == count + more


def test_an_unknown_embedded_base_is_refused():
    with pytest.raises(BadInput, match="gpt-5"):
        resolve("embedded:gpt-5", Path("/"))


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    assert "nowhere does not exist" in str(refused(tmp_path / "nowhere"))


def test_a_file_is_no_directory(base):
    assert "is a file" in str(refused(base / "config.json"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(base, name):
    (base / name).unlink()
    assert name in str(refused(base))


def test_pickles_are_refused_by_name(base):
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    assert "only pytorch_model.bin, and a pickle can run code" in str(refused(base))


def test_a_missing_shard_is_named(base):
    (base / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks model-1.safetensors" in str(refused(base))


def test_an_unknown_architecture_is_refused_with_the_supported_ones(base):
    change(base / "config.json", architectures=["Gemma9ForCausalLM"])
    error = refused(base)
    assert "Gemma9ForCausalLM" in str(error)
    assert "LlamaForCausalLM" in error.next_step


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_its_own_is_refused(base, name):
    change(base / name, auto_map={"AutoModel": "modeling.Evil"})
    assert "auto_map" in str(refused(base))


def test_quantized_weights_are_refused(base):
    change(base / "config.json", quantization_config={"quant_method": "awq"})
    assert "awq" in str(refused(base))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "longrope"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"max_position_embeddings": None}, "how long a context"),
    ],
)
def test_what_llama_cpp_would_silently_compute_otherwise_is_refused(base, values, named):
    change(base / "config.json", **values)
    assert named in str(refused(base))


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe"])
def test_a_broken_config_is_named(base, content):
    (base / "config.json").write_bytes(content)
    assert "config.json" in str(refused(base))


def test_weights_cut_short_are_refused(base):
    path = base / "model.safetensors"
    os.truncate(path, path.stat().st_size - 100)
    assert "bytes expected" in str(refused(base))


def test_a_pointer_of_git_lfs_is_no_weight(base):
    (base / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    error = refused(base)
    assert "model.safetensors" in str(error)
    assert "Git LFS" in error.next_step


def test_weights_of_eight_bits_are_refused(base):
    header = {"w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + bytes(4)
    (base / "model.safetensors").write_bytes(content)
    assert "w is stored as F8_E4M3" in str(refused(base))


def embed(monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes) -> Path:
    path = folder / "embedded.gguf"
    path.write_bytes(content)
    os.utime(path, (time.time() - 60, time.time() - 60))
    monkeypatch.setattr(places, "embedded_gguf", lambda: path)
    return path


def test_the_embedded_base_is_always_that_file(tmp_path, monkeypatch):
    path = embed(monkeypatch, tmp_path, b"cut short")
    with pytest.raises(Missing, match="damaged"):
        resolve("embedded:smollm2-135m-instruct", Path("/"))
    monkeypatch.setattr(embedded, "SHA256", embedded.file_digest(path))
    found = resolve("embedded:SmolLM2-135M-instruct", Path("/"))
    assert (found.origin, found.format) == ("embedded", "gguf")
    assert (found.path, found.context) == (path, 8192)


def test_a_gguf_that_changes_after_it_was_found_is_refused(tmp_path, monkeypatch):
    path = embed(monkeypatch, tmp_path, b"as it was found")
    monkeypatch.setattr(embedded, "SHA256", embedded.file_digest(path))
    found = resolve("embedded:SmolLM2-135M-instruct", Path("/"))
    refuse_if_changed(found)
    path.write_bytes(b"as it is now")
    with pytest.raises(BadInput, match="changed while it was read"):
        refuse_if_changed(found)


def test_what_is_known_of_the_embedded_base_is_what_its_file_says():
    assert gguf.facts(places.embedded_gguf()) == embedded.FACTS


def test_the_facts_of_a_gguf_stand_in_its_front(tmp_path):
    smallest.write(tmp_path / "a.gguf", template="{{ enable_thinking }}")
    found = gguf.facts(tmp_path / "a.gguf")
    assert (found.architecture, found.context) == ("LlamaForCausalLM", smallest.CONTEXT)
    assert found.parameters == 2 * 262 * 64 + 3 * 64 + 7 * 64 * 64
    assert found.can_think


def test_a_gguf_that_is_none_or_of_another_family_is_refused(tmp_path):
    from gguf import GGUFWriter

    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF and no more")
    with pytest.raises(BadInput, match="no whole GGUF"):
        gguf.facts(path)
    writer = GGUFWriter(path, "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(BadInput, match="a vocabulary without weights") as caught:
        gguf.facts(path)
    assert "language model" in caught.value.next_step


def test_a_missing_embedded_base_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "embedded_gguf", lambda: tmp_path / "none.gguf")
    with pytest.raises(Missing) as caught:
        resolve("embedded:smollm2-135m-instruct", Path("/"))
    assert caught.value.next_step == "Run: make setup"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_hidden_layers": 3}, "model.layers.2.self_attn.q_proj.weight .* is absent"),
        ({"num_hidden_layers": 1}, "speaks of 1 layers, the weights have 2"),
        ({"hidden_size": 128}, r"embed_tokens.weight has the shape \[\d+, 128\]"),
        ({"hidden_size": None}, "has no hidden_size"),
        ({"num_key_value_heads": 4}, "k_proj.weight"),
        ({"intermediate_size": 100}, "gate_proj.weight"),
    ],
)
def test_a_config_of_another_model_than_the_weights_is_refused(base, values, words):
    change(base / "config.json", **values)
    assert re.search(words, str(refused(base)))


@pytest.mark.parametrize(
    "values",
    [
        {"architectures": 5},
        {"architectures": {"a": 1}},
        {"architectures": "FooForCausalLM"},
        {"rope_scaling": "x"},
        {"quantization_config": "x"},
    ],
)
def test_values_of_another_kind_in_the_config_are_no_trace(base, values):
    change(base / "config.json", **values)
    refused(base)


@pytest.mark.parametrize("tensor", [{"shape": [1]}, {"shape": [3], "dtype": "F32"}])
def test_a_tensor_without_a_type_or_of_another_size_is_a_damaged_file(base, tensor):
    header = json.dumps({"a": {**tensor, "data_offsets": [0, 4]}}).encode()
    file = base / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert "is damaged" in str(refused(base))
