"""Bases out of the local Ollama, and GGUF files: found, named, read in place, known by content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bases.gguf_identity import identity
from pipeline.bases.origins import ollama as origin
from pipeline.bases.reference import Original, original, resolve
from pipeline.bases.remarks import remarks
from pipeline.common.errors import BadInput, Missing
from pipeline.tools import blob, gguf_types, server
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.gguf_layout import layouts
from pipeline.tools.gguf_parts import parts
from pipeline.tools.host import Address

TENSORS = {
    "token_embd.weight": np.ones((4, 32), np.float32),
    "blk.0.attn_q.weight": np.full((32, 32), 2.0, np.float32),
    "output_norm.weight": np.full(32, 3.0, np.float32),
}
JINJA = "{% for m in messages %}{{ m.content }}{% endfor %}"
Show = Callable[..., dict[str, Any]]


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    names: tuple[str, ...] = tuple(TENSORS),
    quantized: bool = False,
    **keys: Any,
) -> Path:
    """A base of three tensors.

    Args:
        names: of those that it has, in this order.
        keys: whole names with `__` for dots.
    """
    import gguf

    from pipeline.tools import ggml

    writer = gguf.GGUFWriter(path, architecture)
    known: dict[str, Any] = {
        f"{architecture}__context_length": 128,
        "tokenizer__chat_template": JINJA,
    }
    if "general__architecture" in keys and keys["general__architecture"] is None:
        del writer.kv_data[0]["general.architecture"]  # which the writer gives to every file
    for key, value in {**known, **keys}.items():
        add = {int: writer.add_uint32, str: writer.add_string, float: writer.add_float32}
        if value is not None:
            add[type(value)](key.replace("__", "."), value)
    for name in names:
        data = TENSORS[name]
        if quantized and data.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q4_0
            writer.add_tensor(name, ggml.quantize("Q4_0", data), raw_dtype=kind)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# GGUF files


def test_a_gguf_file_beside_the_modelfile_is_a_base(tmp_path):
    path = write_gguf(tmp_path / "mine.gguf", quantized=True)
    found = resolve("./mine.gguf", tmp_path)
    assert (found.origin, found.format, found.name, found.path) == ("gguf", "gguf", "mine", path)
    assert (found.architecture, found.context, found.weights) == ("LlamaForCausalLM", 128, "Q4_0")
    assert found.parameters == 4 * 32 + 32 * 32 + 32


def test_the_same_weights_in_another_order_and_under_another_name_are_the_same_base(tmp_path):
    one = write_gguf(tmp_path / "one.gguf", general__name="One")
    names = tuple(reversed(TENSORS))
    other = write_gguf(tmp_path / "two.gguf", names=names, general__name="Two", general__url="x")
    assert one.read_bytes() != other.read_bytes()
    assert identity([one]) == identity([other])


@pytest.mark.parametrize(
    "more",
    [
        {"quantized": True},
        {"llama__context_length": 64},
        {"tokenizer__chat_template": "{{ messages }}"},
        {"names": ("token_embd.weight", "output_norm.weight")},
    ],
)
def test_other_weights_keys_or_template_are_another_base(tmp_path, more):
    one, other = write_gguf(tmp_path / "one.gguf"), write_gguf(tmp_path / "two.gguf", **more)
    assert identity([one]) != identity([other])


def split(folder: Path) -> list[Path]:
    """The base in two files, as llama.cpp's gguf-split names and marks them."""
    first, second = (folder / f"base-{i:05}-of-00002.gguf" for i in (1, 2))
    marks = {"split__count": 2, "split__tensors__count": 3}
    write_gguf(first, names=("token_embd.weight",), split__no=0, **marks)
    rest = ("blk.0.attn_q.weight", "output_norm.weight")
    write_gguf(second, names=rest, split__no=1, llama__context_length=None, **marks)
    return [first, second]


def test_any_part_of_a_split_file_names_the_whole(tmp_path):
    first, second = split(tmp_path)
    whole = write_gguf(tmp_path / "whole.gguf")
    for part in (first, second):
        found = resolve(f"./{part.name}", tmp_path)
        assert found.path == first
        assert sorted(found.files) == [first.name, second.name]
        assert found.digest == resolve("./whole.gguf", tmp_path).digest
        assert original(found).paths == [first, second]
    assert identity([whole]) == identity([first, second])
    places = layouts([first, second])
    norm = places.tensors["output_norm.weight"]
    assert norm.part == 1
    assert places.read(norm) == TENSORS["output_norm.weight"].tobytes()


def test_parts_behind_links_are_found_by_the_names_of_the_links(tmp_path):
    """As in the hub's cache, where files have their digests for names."""
    import gguf

    shelf, cache = tmp_path / "shelf", tmp_path / "cache"
    for folder in (shelf, cache):
        folder.mkdir()
    for i, name in enumerate(list(TENSORS)[:2]):
        file = cache / f"blob{i}"
        writer = gguf.GGUFWriter(file, "llama")
        writer.add_uint32("llama.context_length", 128)
        writer.add_uint16("split.no", i)
        writer.add_uint16("split.count", 2)
        writer.add_tensor(name, TENSORS[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        (shelf / f"m-{i + 1:05}-of-00002.gguf").symlink_to(file)
    found = resolve("./m-00002-of-00002.gguf", shelf)
    assert list(found.files) == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]


def test_a_part_that_is_missing_or_another_models_is_named(tmp_path):
    first, second = split(tmp_path)
    second.rename(tmp_path / "kept")
    with pytest.raises(BadInput, match=r"base-00002-of-00002\.gguf"):
        resolve(f"./{first.name}", tmp_path)
    write_gguf(second, names=("output_norm.weight",))
    with pytest.raises(BadInput, match="is not part 2 of 2"):
        resolve(f"./{first.name}", tmp_path)
    assert parts(tmp_path / "base.gguf") == [tmp_path / "base.gguf"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"general__type": "adapter"}, "a LoRA adapter"),
        ({"general__type": "mmproj"}, "a projector alone"),
        ({"architecture": "clip"}, "a projector alone"),
        ({"general__type": "imatrix", "general__architecture": None}, "an importance matrix"),
        ({"names": ()}, "a vocabulary without weights"),
        ({"architecture": "nomic-bert"}, "an embedding model"),
        ({"llama__expert_count": 8}, "a mixture of 8 experts"),
        ({"architecture": "qwen3moe"}, "the family qwen3moe is not supported"),
        ({"architecture": "no-such"}, "the family no-such"),
        ({"llama__context_length": None}, "lacks the key llama.context_length"),
    ],
)
def test_what_is_no_base_is_refused_by_name(tmp_path, more, why):
    write_gguf(tmp_path / "x.gguf", **more)
    with pytest.raises(BadInput, match=why):
        resolve("./x.gguf", tmp_path)


def test_a_gguf_that_is_none_is_refused(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(BadInput, match=r"x\.gguf"):
        resolve("./x.gguf", tmp_path)
    with pytest.raises(BadInput, match="does not exist"):
        resolve("./y.gguf", tmp_path)


def test_a_gguf_that_goes_or_changes_before_it_is_packed_is_named(tmp_path):
    path = write_gguf(tmp_path / "x.gguf")
    kept = original(resolve("./x.gguf", tmp_path))
    kept.check()
    write_gguf(path, quantized=True)
    with pytest.raises(BadInput, match="changed"):
        kept.check()
    path.unlink()
    with pytest.raises(Missing, match="has gone"):
        kept.check()
    assert Original().digest == ""


def test_the_table_of_types_is_gguf_pys():
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    for number, (name, block, size) in gguf_types.TYPES.items():
        kind = GGMLQuantizationType(number)
        assert (name, block, size) == (kind.name, *GGML_QUANT_SIZES[kind])


# the local Ollama


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """What /api/show tells of a model of that file."""
    path = write_gguf(tmp_path / "sha256-abc")

    def told(**more: Any) -> dict[str, Any]:
        plain = {
            "modelfile": f"# Modelfile\nFROM {path}\nTEMPLATE {{{{ .Prompt }}}}\n",
            "template": JINJA,
            "details": {"format": "gguf"},
        }
        return {**plain, **more}

    return told


def located(told: dict[str, Any]) -> Any:
    return origin._located("base:latest", "m" * 64, told, lambda progress: None)


def test_a_models_file_is_read_where_it_lies(show, tmp_path):
    found = located(show(license="MIT"))
    assert (found.format, found.path) == ("gguf", tmp_path / "sha256-abc")
    assert found.digest == identity([tmp_path / "sha256-abc"])
    assert (found.name, found.license) == ("base:latest", "MIT")
    assert original_paths(tmp_path) == ["sha256-abc"]


def original_paths(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_file()]


def test_what_a_model_brings_beside_its_weights_is_read(show):
    parameters = 'stop                           "<|im_end|>"\nstop  "a b"\nnum_ctx  4096\n'
    path = show()["modelfile"].split("\n")[1]
    texts = "TEMPLATE {{ .System }}\nSYSTEM Be kind.\n"
    text = f"# Modelfile\n{path}\n{texts}RENDERER gemma4\nPARSER gemma4\nLICENSE MIT\n"
    more = {"system": "Be kind.", "messages": [{}, {}], "modelfile": text}
    found = located(show(template="{{ .System }}", parameters=parameters, **more)).installed
    assert (found.tag, found.system, found.messages) == ("base:latest", "Be kind.", 2)
    assert found.parameters == {"stop": ["<|im_end|>", "a b"], "num_ctx": 4096}
    assert (found.template, found.renderer, found.parser) == ("{{ .System }}", *["gemma4"] * 2)


STRANGE = 'Say "FROM":\nFROM /etc/passwd\nADAPTER /etc/passwd\nRENDERER evil\nPARSER evil\n.'


@pytest.mark.parametrize("beside", ["system", "license"])
def test_no_line_of_a_models_texts_is_a_command(show, beside):
    """Ollama quotes them so (tried): what is behind a text is still read."""
    path = show()["modelfile"].split("\n")[1]
    system = {"system": STRANGE} if beside == "system" else {}
    said = f'SYSTEM """{STRANGE}"""\n' if system else ""
    text = f'{path}\n\nTEMPLATE {{{{ .A }}}}\n{said}RENDERER qwen3\nLICENSE """{STRANGE}"""\n'
    found = located(show(modelfile=f"# Modelfile\n{text}", template="{{ .A }}", **system)).installed
    assert (found.renderer, found.parser, found.projectors) == ("qwen3", "", {})
    bare = text.replace("RENDERER qwen3\n", "")
    found = located(show(modelfile=f"# Modelfile\n{bare}", template="{{ .A }}", **system)).installed
    assert (found.renderer, found.parser) == ("", "")


def test_a_damaged_file_of_ollamas_is_known_by_its_name(show, tmp_path):
    wrong = write_gguf(tmp_path / f"sha256-{'0' * 64}")
    with pytest.raises(BadInput, match="is damaged") as caught:
        located(show(modelfile=f"FROM {wrong}\n"))
    assert "ollama pull base:latest" in caught.value.next_step


def test_a_template_decides_what_the_base_is_only_where_the_file_has_none(show, tmp_path):
    assert located(show()).digest == located(show(template="{{ .System }}")).digest
    bare = write_gguf(tmp_path / "sha256-abd", tokenizer__chat_template=None)
    told = show(modelfile=f"FROM {bare}\n", template="{{ .System }}")
    assert located(told).digest != located({**told, "template": "{{ .Other }}"}).digest


def test_a_projector_beside_it_is_no_second_model_and_part_of_the_base(show, tmp_path):
    eyes = write_gguf(tmp_path / "sha256-eyes", architecture="clip")
    text = show()["modelfile"]
    found = located(show(modelfile=f"FROM {eyes}\n{text}"))
    assert found.path.name == "sha256-abc"
    (digest,) = found.installed.projectors
    assert digest.startswith("sha256:")
    assert found.digest != located(show()).digest


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"remote_model": "big", "remote_host": "https://x"}, "in a cloud"),
        ({"details": {"format": "safetensors"}}, "stored as safetensors"),
        ({"modelfile": "FROM {path}\nADAPTER /x/sha256-1\n"}, "a LoRA adapter"),
        ({"modelfile": "FROM {path}\nFROM {path}\n"}, "2 parts"),
    ],
)
def test_a_model_that_has_no_weights_of_its_own_here_is_refused(show, tmp_path, more, why):
    if "modelfile" in more:
        more = {"modelfile": more["modelfile"].replace("{path}", str(tmp_path / "sha256-abc"))}
    with pytest.raises(BadInput, match=why):
        located(show(**more))


@pytest.mark.parametrize(
    ("path", "what", "way_out"),
    [
        ("C:\\Users\\a\\.ollama\\models\\blobs\\sha256-1", "Windows side", "/mnt/c/Users/a"),
        ("/root/elsewhere/.ollama/models/blobs/sha256-1", "in a container", "docker run -v"),
    ],
)
def test_a_file_that_is_not_here_says_which_case_it_is(path, what, way_out):
    with pytest.raises(Missing, match=what) as caught:
        blob.readable(path)
    assert way_out in caught.value.next_step


def test_a_file_of_a_service_says_how_to_read_it(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(Missing, match="a service of another user") as caught:
        blob.readable("/usr/share/ollama/.ollama/models/blobs/sha256-1")
    assert "usermod -aG ollama" in caught.value.next_step


def test_a_name_that_ollama_lacks_offers_the_pull_and_what_is_near(
    fake: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ensure", lambda say: fake.address)
    model = {"gguf": "0" * 64, "system": "", "parameters": {}, "license": ""}
    fake.models |= {"llama3.2:3b": model, "qwen3:8b": model}
    with pytest.raises(BadInput, match=r"It has: llama3\.2:3b") as caught:
        resolve("llama3.2:1b", Path("/"))
    assert caught.value.next_step == "Get it first: ollama pull llama3.2:1b"
    with pytest.raises(BadInput, match="no name that Ollama could have"):
        resolve("what a base!", Path("/"))


def test_an_ollama_that_had_to_be_started_is_told(
    fake: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ensure(say: Callable[[str], object]) -> Address:
        say("Ollama started at …")
        return fake.address

    monkeypatch.setattr(server, "ensure", ensure)
    told: list[str] = []
    for answers in ("", "0.34.4"):  # only where none answered before
        monkeypatch.setattr(server, "answers", lambda where, found=answers: found)
        with pytest.raises(BadInput, match="no model of this name"):
            resolve("nobody", Path("/"), lambda progress: told.append(progress.note))
    assert told == ["Ollama started at …"]


# what is said of it


def test_what_of_a_base_is_not_taken_over_is_said(show):
    found = located(show(system="Be kind.", parameters="temperature 0.2\n", template="{{ .S }}"))
    from pipeline.bases.formats import gguf
    from pipeline.bases.reference import Reference

    facts = gguf.facts(found.path).model_copy(update={"weights": "Q4_K"})
    lines = remarks(Reference(**found.model_dump(), **facts.model_dump()))
    for words in (
        "quantized (Q4_K)",
        " in Q4_K_M instead of up to ",
        "“Be kind.”",
        "temperature 0.2",
        "TEMPLATE of base:latest",
    ):
        assert any(words in line for line in lines), words
    plain = located(show())
    assert remarks(Reference(**plain.model_dump(), **gguf.facts(plain.path).model_dump())) == []


# the real one


def register_strange(ollama: Any, digest: str) -> None:
    texts = {"system": STRANGE, "license": STRANGE, "template": "{{ .System }} {{ .Prompt }}"}
    body = {"model": "strange", "files": {"model.gguf": f"sha256:{digest}"}, **texts}
    list(ollama._statuses("registering", body, lambda progress: None))


@pytest.mark.smoke
def test_a_model_of_the_real_ollama_is_found_and_known_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from real_ollama import serving

    from pipeline.common import places
    from pipeline.tools.ollama import Ollama

    embedded = resolve("embedded:smollm2-135m-instruct", Path("/"))
    path = places.embedded_gguf()
    with serving(tmp_path) as address, Ollama(address) as ollama:
        monkeypatch.setattr(server, "ensure", lambda say: address)
        ollama.upload(path, embedded.digest, lambda progress: None)
        body = {
            "model": "mine",
            "files": {"model.gguf": f"sha256:{embedded.digest}"},
            "system": "Be kind.",
            "parameters": {"temperature": 0.5, "stop": ["END"]},
        }
        list(ollama._statuses("registering", body, lambda progress: None))
        found = resolve("mine", Path("/"))
        assert found.installed
        assert (found.installed.tag, found.installed.system) == ("mine:latest", "Be kind.")
        assert found.installed.parameters["temperature"] == 0.5
        assert "END" in json.dumps(found.installed.parameters)
        # Ollama before 0.34.1 writes it anew, tensors in another order
        assert found.digest == resolve(str(path.with_suffix(".gguf")), Path("/")).digest
        register_strange(ollama, embedded.digest)
        strange = resolve("strange", Path("/")).installed
        assert strange
        assert (strange.system, strange.renderer, strange.projectors) == (STRANGE, "", {})
        ollama.copy("mine", "another")
        assert resolve("another:latest", Path("/")).digest == found.digest
        assert (found.weights, found.parameters) == ("Q4_1", embedded.parameters)
