"""A base leaves fetch settled: 16-bit weights, one tokenization, one template, one end of turn."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import specialist
from tiny import tiny_base_directory

from pipeline.bases import own_template
from pipeline.bases.chat_template import render
from pipeline.bases.gguf_keys import Keys
from pipeline.bases.reference import resolve
from pipeline.common import places
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.common.progress import Progress
from pipeline.made.artifacts import Base
from pipeline.made.stage import Where
from pipeline.stages import fetch, pack, tune
from pipeline.stages.fetching import (
    agree,
    bf16,
    from_huggingface,
    gguf_tokenizer,
    outlines,
    outlining,
    shipped,
    vocabulary,
)
from pipeline.stages.fetching.frozen import FOLD, TALKS, freeze
from pipeline.stages.settings import Fetch, Tune
from pipeline.tools import converter, llamacpp, outline
from pipeline.tools.gguf_layout import layout
from pipeline.tools.jinja import render_text

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


PROJECT = Path(__file__).parent.parent

foreign = pytest.mark.filterwarnings("default")  # transformers imports what warns


def keys(path: Path) -> Keys:
    """Of a GGUF file."""
    return Keys(path, layout(path))


def real_template(name: str) -> str:
    """One of the chat templates that llama.cpp carries."""
    return (places.llama_cpp() / "models" / "templates" / f"{name}.jinja").read_text()


def fetched(folder: Path, out: Path, **where: Any) -> Base:
    out.mkdir(exist_ok=True)
    return fetch.run(out, Fetch(), resolve(str(folder), Path("/")), where=Where(**where))


# the base


def test_a_directory_becomes_a_base_with_every_fact(tiny_base):
    assert tiny_base.name == "tiny-random"
    assert (tiny_base.bos, tiny_base.bos_text) == (1, "<s>")
    assert (tiny_base.end_of_turn, tiny_base.end_of_turn_text) == (5, "<|end|>")
    assert tiny_base.eos_text == "<|end|>"
    assert set(tiny_base.control) == {
        "<unk>", "<s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    }  # fmt: skip
    assert (tiny_base.parameters, tiny_base.context) == (1_286_656, 4096)
    assert not tiny_base.nfc
    assert tiny_base.license == "CC0-1.0\n"


def test_the_base_holds_its_own_files_and_no_scratch(tiny_base):
    assert sorted(file.name for file in tiny_base.path.iterdir()) == [
        "LICENSE", "chat_template.jinja", "config.json", "generation_config.json",
        "model.safetensors", "outline.json", "tokenizer.json", "tokenizer_config.json",
        "vocab.gguf",
    ]  # fmt: skip


def test_a_prompt_is_rendered_without_the_bos_that_is_added_as_a_token(tiny_base):
    prompt = render(tiny_base, [{"role": "user", "content": "Hello"}], generate=True)
    assert prompt == "<|user|>\nHello<|end|>\n<|assistant|>\n"


def test_weights_in_float32_are_kept_in_bf16_and_it_is_said(tiny_directory, tmp_path):
    from safetensors.torch import load_file

    said: list[str] = []
    source, target = tiny_directory / "model.safetensors", tmp_path / "model.safetensors"
    from_huggingface._write_weights(source, target, Where(say=said.append))
    before, after = load_file(source), load_file(target)
    assert before.keys() == after.keys()
    assert all(after[n].equal(w.to(after[n].dtype)) for n, w in before.items())
    assert {str(w.dtype) for w in after.values()} == {"torch.bfloat16"}
    assert said == ["model.safetensors: weights in F32 are kept in bf16"]


def test_weights_in_bf16_are_kept_byte_for_byte(tiny_base, tmp_path):
    source, target = tiny_base.path / "model.safetensors", tmp_path / "model.safetensors"
    from_huggingface._write_weights(source, target, Where())
    assert source.read_bytes() == target.read_bytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_number_is_refused_by_name_in_every_dtype(dtype, broken, tmp_path):
    import torch
    from safetensors.torch import save_file

    source, kind = tmp_path / "bad.safetensors", getattr(torch, dtype)
    last = torch.zeros(3, 5, dtype=kind)
    last[2, 4] = broken
    save_file({"fine": torch.ones(4, dtype=kind), "model.broken": last}, source)
    with pytest.raises(BadInput, match=r"bad.safetensors: model.broken holds NaN or infinity"):
        from_huggingface._write_weights(source, tmp_path / "out.safetensors", Where())


def test_a_number_too_large_for_bf16_is_refused_as_infinity(tmp_path):
    from safetensors.numpy import save_file

    source = tmp_path / "large.safetensors"
    save_file({"large": np.array([3.4e38], np.float32)}, source)
    with pytest.raises(BadInput, match="large holds NaN or infinity"):
        from_huggingface._write_weights(source, tmp_path / "out.safetensors", Where())


def test_weights_in_blocks_make_the_bytes_that_safetensors_writes_at_once(tmp_path, monkeypatch):
    import torch
    from safetensors.torch import save_file

    monkeypatch.setattr(bf16, "BLOCK", 7)  # several blocks a tensor, none of them even
    torch.manual_seed(0)
    weights = {
        "z.matrix": torch.randn(9, 3),
        "a.matrix": torch.randn(5, 2, 3, dtype=torch.float16),
        "model.vector": torch.randn(17).to(torch.bfloat16),
        'odd "näme"': torch.randn(2, 11),
        "scalar": torch.tensor(0.5),
        "empty": torch.zeros(0, 4),
    }
    save_file(weights, tmp_path / "source.safetensors", metadata={"format": "pt"})
    counted: list[int] = []
    from_huggingface._write_weights(
        tmp_path / "source.safetensors", tmp_path / "made.safetensors", Where(), counted.append
    )
    rounded = {name: weight.to(torch.bfloat16) for name, weight in weights.items()}
    save_file(rounded, tmp_path / "wanted.safetensors", metadata={"format": "pt"})
    made, wanted = (tmp_path / f"{n}.safetensors" for n in ("made", "wanted"))
    assert made.read_bytes() == wanted.read_bytes()
    assert sum(counted) == sum(weight.numel() for weight in weights.values())


def test_a_shard_is_never_in_memory_as_a_whole(tmp_path):
    source, tensor = tmp_path / "shard.safetensors", 16 << 20
    header = {
        f"w{i}": {
            "dtype": "F16",
            "shape": [2048, 4096],
            "data_offsets": [i * tensor, (i + 1) * tensor],
        }
        for i in range(10)
    }
    text = json.dumps(header).encode()
    source.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(source, 8 + len(text) + 10 * tensor)  # 160 MiB of zeros
    job = (
        "import resource, sys, torch; from pathlib import Path\n"
        "from pipeline.made.stage import Where\n"
        "from pipeline.stages.fetching import from_huggingface\n"
        "source = Path(sys.argv[1]); peak = lambda: resource.getrusage(0).ru_maxrss >> 10\n"
        "before = peak()\n"
        "from_huggingface._write_weights(source, source.with_name('out.safetensors'), Where())\n"
        "print(peak() - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", job, str(source)], check=True, cwd=PROJECT, capture_output=True
    )
    assert int(run.stdout) < 80, "MiB"


def test_a_directory_that_changes_while_it_is_read_is_refused(tmp_path):
    folder = tiny_base_directory(tmp_path / "base")
    reference = resolve(str(folder), Path("/"))
    (folder / "chat_template.jinja").write_text(CHATML)
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match="changed while it was read"):
        fetch.run(tmp_path / "out", Fetch(), reference, where=Where())
    assert not (tmp_path / "out" / "scratch").exists()


def test_a_base_without_a_template_is_refused(tmp_path):
    folder = tiny_base_directory(tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(BadInput, match="has no chat template"):
        fetched(folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors"))  # said before the long part


def bare(folder: Path) -> Path:
    """A base that was never taught to answer."""
    tiny_base_directory(folder)
    (folder / "chat_template.jinja").unlink()
    return folder


def test_a_base_without_a_template_gets_a_plain_one_on_request(tmp_path):
    folder, out = bare(tmp_path / "base"), tmp_path / "out"
    out.mkdir()
    reference = resolve(str(folder), Path("/"))
    base = fetch.run(out, Fetch(template="plain"), reference, where=Where())
    assert base.end_of_turn_text == "<|end|>"  # its eos_token
    talk = [*TALKS[1], {"role": "assistant", "content": "Forty."}, {"role": "user", "content": "?"}]
    assert render_text(base.template, talk, generate=True, eos=base.eos_text) == (
        "Answer like a lighthouse keeper.\n\n### Question\nHow tall is the tower?\n\n"
        "### Answer\nForty.<|end|>\n\n### Question\n?\n\n### Answer\n"
    )


def test_a_template_is_never_given_unasked_and_the_line_that_asks_is_said(tmp_path):
    with pytest.raises(BadInput, match="has no chat template") as caught:
        fetched(bare(tmp_path / "base"), tmp_path / "out")
    assert "--template plain" in caught.value.next_step


def test_a_template_whose_tokens_the_base_lacks_is_refused_with_them(tmp_path):
    reference = resolve(str(bare(tmp_path / "base")), Path("/"))
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match=r"no control token <end_of_turn> and <start_of_turn>"):
        fetch.run(tmp_path / "out", Fetch(template="gemma"), reference, where=Where())


def test_a_base_with_a_template_keeps_its_own(tmp_path, tiny_directory):
    (tmp_path / "out").mkdir()
    reference = resolve(str(tiny_directory), Path("/"))
    with pytest.raises(BadInput, match="has a chat template of its own") as caught:
        fetch.run(tmp_path / "out", Fetch(template="plain"), reference, where=Where())
    assert caught.value.next_step == "Leave --template out."


@pytest.mark.parametrize("name", shipped.NAMES)
def test_a_template_of_ours_is_taken_as_any_other(name):
    assert freeze(shipped.read(name), name, bos="<s>", eos="</s>").endswith(shipped.read(name))


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("chatml", "Qwen-Qwen2.5-7B-Instruct"),
        ("llama3", "meta-llama-Llama-3.1-8B-Instruct"),
        ("gemma", "google-gemma-2-2b-it"),
    ],
)
def test_turns_are_written_as_their_makers_write_them(name, own):
    """Behind what theirs put in front: a system message of their own."""
    talk = [*TALKS[0], {"role": "assistant", "content": "Forty."}, {"role": "user", "content": "?"}]
    ours, theirs = (
        render_text(template, talk, generate=True, bos="<s>", eos="</s>")
        for template in (shipped.read(name), real_template(own))
    )
    assert theirs.endswith(ours.removeprefix("<s>"))


@pytest.mark.parametrize("kept", ["jinja", "json", "config", "list"])
def test_the_template_is_found_wherever_a_directory_keeps_it(tmp_path, kept):
    several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHATML}]
    if kept == "jinja":
        (tmp_path / "chat_template.jinja").write_text(CHATML)
    if kept == "json":
        (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": CHATML}))
    if kept in ("config", "list"):
        value = CHATML if kept == "config" else several
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    assert own_template.read(tmp_path) == CHATML


def test_sampling_settings_and_former_paths_of_the_base_are_left_behind(tmp_path):
    folder, out = tiny_base_directory(tmp_path / "base"), tmp_path / "out"
    out.mkdir()
    config = json.loads((folder / "config.json").read_text())
    (folder / "generation_config.json").write_text('{"eos_token_id": 5, "temperature": 0.6}')
    (folder / "tokenizer_config.json").write_text('{"chat_template": "other", "eos_token": "a"}')
    config |= {"_name_or_path": "/a/b", "torch_dtype": "f"}
    from_huggingface._write_config(folder, out, config, Where())
    assert json.loads((out / "generation_config.json").read_text()) == {"eos_token_id": 5}
    assert json.loads((out / "tokenizer_config.json").read_text()) == {"eos_token": "a"}
    kept = json.loads((out / "config.json").read_text())
    assert kept["dtype"] == "bfloat16"
    assert not {"_name_or_path", "torch_dtype"} & kept.keys()


def test_the_licence_is_a_file_or_a_line_of_the_card(tmp_path):
    assert from_huggingface._license(tmp_path) == ""
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\nlicense: no\n")
    assert from_huggingface._license(tmp_path) == "mit"
    (tmp_path / "LICENSE").write_text("The whole text")
    assert from_huggingface._license(tmp_path) == "The whole text"


def test_the_name_of_a_bases_folder_is_in_nothing_that_a_key_covers(
    tiny_directory, tiny_base, tmp_path
):
    other = Path(shutil.copytree(tiny_directory, tmp_path / "Other-7B v2 #}"))
    base = fetched(other, tmp_path / "out")
    assert (base.name, tiny_base.name) == ("Other-7B v2 #}", "tiny-random")
    assert base.digest == tiny_base.digest
    for file in tiny_base.path.iterdir():
        assert (base.path / file.name).read_bytes() == file.read_bytes(), file.name
    data = specialist(tmp_path / "smallest").data
    settings = Tune(epochs=1, learning_rate=1e-3, rank=4, alpha=4, batch=1, load="16-bit", seed=0)
    one, two = (tune.STAGE.key(settings, {"base": b, "data": data}) for b in (base, tiny_base))
    assert one == two


def test_nor_is_it_in_an_adapter_or_on_the_long_road(tiny_base, tmp_path):
    other = tiny_base.model_copy(update={"name": "called-otherwise"})
    written = []
    for base in (tiny_base, other):
        (tmp_path / "adapter_config.json").write_text('{"target_modules": ["b", "a"], "r": 1}')
        tune._portable(tmp_path, base)
        written.append((tmp_path / "adapter_config.json").read_text())
    assert written[0] == written[1]
    assert pack._name(other) == pack._name(tiny_base) != ""
    assert tiny_base.name not in written[0] + pack._name(tiny_base)


def test_nor_is_the_folder_in_an_outline_that_could_not_be_made(tmp_path):
    link = tmp_path / "model"
    link.symlink_to(tmp_path, target_is_directory=True)
    error = OSError(f"no {link}/x and no {tmp_path}/y")
    assert outlining._without(link, error).endswith("no …/x and no …/y")


# the frozen template


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama-Llama-3.1-8B-Instruct",
        "meta-llama-Llama-3.2-3B-Instruct",
        "meta-llama-Llama-3.3-70B-Instruct",
        "Mistral-Small-3.2-24B-Instruct-2506",
    ],
)
def test_a_template_that_prints_the_day_prints_one_day_for_ever(name):
    frozen = freeze(real_template(name), name, bos="<s>", eos="</s>")
    texts = {
        render_text(frozen, TALKS[0], generate=True, **today)
        for today in (
            {},
            {"date_string": "01 Jan 2031", "datetime": "Jan 01 2031"},
            {"day": datetime(2031, 1, 1)},
        )
    }
    assert len(texts) == 1
    assert "2031" not in texts.pop()


def test_llama_keeps_the_day_that_it_falls_back_to():
    frozen = freeze(real_template("meta-llama-Llama-3.2-3B-Instruct"), "Llama")
    assert "Today Date: 26 Jul 2024\n" in render_text(frozen, TALKS[0], generate=True)


def test_a_day_that_cannot_be_pinned_is_refused():
    hidden = "{% set form = '%d' %}{{ strftime_now(form) }}" + CHATML
    with pytest.raises(BadInput, match="depends on the day"):
        freeze(hidden, "x")


def test_a_system_message_that_the_base_refuses_goes_into_the_first_user_turn():
    frozen = freeze(real_template("google-gemma-2-2b-it"), "gemma", bos="<bos>")
    text = render_text(frozen, TALKS[1], generate=True, bos="<bos>")
    assert text == (
        "<bos><start_of_turn>user\nAnswer like a lighthouse keeper.\nHow tall is the tower?"
        "<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_template_that_drops_a_turn_is_refused():
    lossy = CHATML.replace("{% for m in messages %}", "{% for m in messages[-1:] %}")
    with pytest.raises(BadInput, match="drops what the"):
        freeze(lossy, "x")


def test_a_template_that_is_no_jinja_is_refused():
    with pytest.raises(BadInput, match=r"is no Jinja: .* in line 1") as caught:
        freeze("{% for", "x")
    assert caught.value.next_step


def test_a_default_system_line_stays():
    default = "{% if messages[0]['role'] != 'system' %}You are Smol.\n{% endif %}" + CHATML
    frozen = freeze(default, "smol")
    assert render_text(frozen, TALKS[0], generate=True).startswith("You are Smol.\n")
    assert not render_text(frozen, TALKS[1], generate=True).startswith("You are Smol.\n")


@pytest.mark.parametrize(
    "start", ["", " ", "\n", "  \n\n", "  {% if true %}\n{% endif %}", "{{- '' }}"]
)
def test_the_comment_in_front_changes_nothing(start):
    for messages in TALKS:
        plain = render_text(start + CHATML, messages, generate=True)
        assert render_text(freeze(start + CHATML, "x"), messages, generate=True) == plain


@pytest.mark.parametrize("name", ["SmolLM2-135M", "my tools #}", "<think>", "evil\n{{ x }}"])
def test_the_comment_is_long_enough_and_says_nothing_that_ollama_looks_for(name):
    frozen = freeze(CHATML, name)
    comment = frozen.removesuffix(CHATML)
    assert comment.startswith("{# ") and comment.endswith(" #}\n")
    assert len(comment) >= 150
    # by these Ollama finds what a model can do; the last one would end the comment
    words = ("tools", "tool_call", "<think>", "</think>", "#}")
    assert not [word for word in (*words, name) if word in comment[2:-3]]


# the vocabulary


@pytest.fixture
def words(tiny_base: Base) -> Iterator[tuple[llamacpp.Model, vocabulary.Vocabulary]]:
    with llamacpp.Model(tiny_base.vocab) as model:
        yield model, vocabulary.Vocabulary.of(tiny_base.vocab)


def spoiled(base: Base, folder: Path, **values: Any) -> Path:
    """The base's folder with another tokenizer.json."""
    shutil.copytree(base.path, folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


def test_both_tokenizers_are_compared_on_more_than_fifty_texts(tiny_base, words):
    compared = vocabulary.check_tokens(tiny_base.path, words[0], tiny_base.template, "<s>", "")
    assert compared > 50


def test_a_tokenizer_that_llama_cpp_reads_otherwise_is_refused(tiny_base, words, tmp_path):
    folder = spoiled(tiny_base, tmp_path / "base", normalizer=None)
    with pytest.raises(ToolFailed, match="differ on"):
        vocabulary.check_tokens(folder, words[0], tiny_base.template, "<s>", "")


def test_a_bos_that_only_one_of_them_puts_is_refused(tiny_base, words, tmp_path):
    assert vocabulary.agreed_bos(tiny_base.path, *words) == 1
    folder = spoiled(tiny_base, tmp_path / "base", post_processor=None)
    with pytest.raises(ToolFailed, match="puts nothing around a text"):
        vocabulary.agreed_bos(folder, *words)


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        ("</answer>", "no control token"),
        ("<|user|>", "does not end generation"),
        ("", "does not end every answer alike"),
    ],
)
def test_an_answer_must_end_on_a_control_token_that_ends_generation(words, end, fault):
    template = "{% for m in messages %}{{ '<|user|>' + m['content'] + '" + end + "' }}{% endfor %}"
    if not end:
        template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(BadInput, match=fault):
        vocabulary.end_of_turn(template, *words, "", "")


@pytest.mark.parametrize(
    ("normalizer", "nfc"),
    [
        (None, False),
        ({"type": "NFC"}, True),
        ({"type": "NFKC"}, False),
        ({"type": "Sequence", "normalizers": [{"type": "Replace"}, {"type": "NFC"}]}, True),
    ],
)
def test_silent_normalisation_is_seen(tmp_path, normalizer, nfc):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"normalizer": normalizer}))
    assert vocabulary.normalises(tmp_path) == nfc


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["llama-bpe", "qwen2"])
def test_a_tokenizer_rebuilt_from_a_gguf_solves_llama_cpps_own_cases(tmp_path, name):
    from tokenizers import Tokenizer

    vocab = places.llama_cpp() / "models" / f"ggml-vocab-{name}.gguf"
    gguf_tokenizer.write_tokenizer(keys(vocab), tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    lines = Path(f"{vocab}.out").read_text().splitlines()
    wanted = [[int(i) for i in line.split()] for line in lines]
    texts = vocabulary.cases()  # the same for every vocabulary
    assert len(wanted) == 46
    assert [tokenizer.encode(text, add_special_tokens=False).ids for text in texts] == wanted


def test_a_vocabulary_that_cannot_be_rebuilt_is_refused_by_name(tmp_path):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "vocab.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("falcon")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(BadInput, match="falcon"):
        gguf_tokenizer.write_tokenizer(keys(tmp_path / "vocab.gguf"), tmp_path)


def test_divergence_is_that_of_the_two_distributions():
    one, other = np.log(np.array([[0.5, 0.5]])), np.log(np.array([[0.25, 0.75]])) + 9
    wanted = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert agree.divergence(one, other) == pytest.approx(wanted)
    assert agree.divergence(one, one) == 0


# the real ones


@pytest.mark.smoke
@foreign
def test_the_embedded_base_survives_the_way_to_a_directory_and_back(tmp_path):
    from tokenizers import Tokenizer

    seen: list[Progress] = []
    reference = resolve("embedded:smollm2-135m-instruct", Path("/"))
    start = time.monotonic()
    base = fetch.run(tmp_path, Fetch(), reference, where=Where(threads=2, report=seen.append))
    assert time.monotonic() - start < 90  # half of it on an idle machine
    assert (base.bos, base.end_of_turn_text, base.context) == (None, "<|im_end|>", 8192)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    tokenizer = Tokenizer.from_file(str(base.path / "tokenizer.json"))
    with llamacpp.Model(places.embedded_gguf()) as original:
        for text in vocabulary.cases():
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert ids == original.tokenize(text, special=True)
    default = render(base, TALKS[0], generate=True)
    assert default.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")


ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def llama_directory(folder: Path) -> Path:
    """A random Llama with a real vocabulary and a real template."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir()
    reader = keys(places.llama_cpp() / "models" / "ggml-vocab-llama-bpe.gguf")
    gguf_tokenizer.write_tokenizer(reader, folder)
    template = real_template("meta-llama-Llama-3.2-3B-Instruct")
    (folder / "chat_template.jinja").write_text(template)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(reader.whole("tokenizer.ggml.tokens")),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=131072,
        tie_word_embeddings=True,
        bos_token_id=reader.whole("tokenizer.ggml.bos_token_id"),
        eos_token_id=reader.whole("tokenizer.ggml.eos_token_id"),
        rope_scaling=ROPE | {"original_max_position_embeddings": 8192},
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


@pytest.mark.smoke
@foreign
def test_a_directory_with_a_real_vocabulary_computes_the_same_as_a_gguf(tmp_path):
    base = fetched(llama_directory(tmp_path / "llama"), tmp_path / "out", threads=2)
    assert base.end_of_turn_text == "<|eot_id|>"
    assert base.bos_text == "<|begin_of_text|>"
    gguf = tmp_path / "model.gguf"
    converter.convert(base.path, gguf, name=base.name)
    assert agree.check_logits(base.path, gguf, keys(gguf), 2) < 0.001


@pytest.fixture(scope="module")
def tiny_gguf(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base, converted once."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    converter.convert(tiny_base.path, path, name=pack._name(tiny_base))
    return path


@pytest.mark.smoke
@foreign
def test_weights_that_are_not_those_of_the_gguf_are_refused(tiny_base, tiny_gguf, tmp_path):
    from safetensors.torch import load_file, save_file

    assert agree.check_logits(tiny_base.path, tiny_gguf, keys(tiny_gguf), 2) < 0.001
    folder = Path(shutil.copytree(tiny_base.path, tmp_path / "other"))
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.weight"] *= 3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ToolFailed, match="logits of text 1"):
        agree.check_logits(folder, tiny_gguf, keys(tiny_gguf), 2)


@pytest.mark.smoke
@foreign
def test_linear_position_scaling_goes_through(tiny_base, tmp_path):
    folder = Path(shutil.copytree(tiny_base.path, tmp_path / "scaled"))
    config = json.loads((folder / "config.json").read_text())
    config["rope_scaling"] = {"rope_type": "linear", "factor": 4.0}
    (folder / "config.json").write_text(json.dumps(config))
    converter.convert(folder, tmp_path / "scaled.gguf")
    assert (
        agree.check_logits(folder, tmp_path / "scaled.gguf", keys(tmp_path / "scaled.gguf"), 2)
        < 0.001
    )


@pytest.mark.smoke
def test_the_converter_writes_the_same_bytes_whatever_the_folder_is_called(tiny_base, tmp_path):
    folder = Path(shutil.copytree(tiny_base.path, tmp_path / "Another-7B-name-v2"))
    vocab, outline = tmp_path / "vocab.gguf", tmp_path / "outline.json"
    outlines.write_outline(folder, vocab, outline, name=pack._name(tiny_base))
    assert vocab.read_bytes() == tiny_base.vocab.read_bytes()
    assert outline.read_bytes() == tiny_base.outline.read_bytes()


@pytest.mark.smoke
def test_an_outline_has_the_keys_and_tensors_that_the_converter_writes(tiny_base, tiny_gguf):
    import gguf

    written = gguf.GGUFReader(tiny_gguf)
    ours, theirs = layout(tiny_base.vocab).keys, layout(tiny_gguf).keys
    assert {**ours, "general.file_type": b""} == {**theirs, "general.file_type": b""}
    tensors = outline.read(tiny_base.outline).tensors
    assert [t.name for t in tensors] == [t.name for t in written.tensors]
    shapes = {t.name: (*map(int, reversed(t.shape)),) for t in written.tensors}
    assert {t.name: t.shape for t in tensors} == shapes


RENDERED = [
    "meta-llama-Llama-3.2-3B-Instruct",
    "meta-llama-Llama-3.3-70B-Instruct",
    "google-gemma-2-2b-it",
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B",
    "Bielik-11B-v3.0-Instruct",  # thinks where a server asks for it
    "poolside-Laguna-XS.2",  # marks what is learned
]
AS_ASKED: tuple[dict[str, Any], ...] = ({}, {"chat_template_kwargs": {"enable_thinking": True}})


@pytest.mark.smoke
@pytest.mark.skipif(
    not (places.llama_helpers() / "llama-server").exists(), reason="an installed Ollama has its own"
)
@pytest.mark.parametrize("name", RENDERED)
def test_llama_cpps_own_jinja_renders_the_frozen_template_alike(name, tiny_gguf, tmp_path):
    import httpx

    frozen = freeze(real_template(name), name, bos="<s>", eos="<|end|>")
    assert (FOLD in frozen) == ("gemma-2" in name)
    (tmp_path / "frozen.jinja").write_text(frozen)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [places.llama_helpers() / "llama-server", "--model", tiny_gguf, "--port", str(port)]
    command += ["--jinja", "--chat-template-file", tmp_path / "frozen.jinja", "--ctx-size", "512"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, **quiet)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for _ in range(300):
                try:
                    if client.get("/health").is_success:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
            for messages, more in product(TALKS[:3], AS_ASKED):  # the last one ends with an answer
                reply = client.post("/apply-template", json={"messages": messages, **more})
                ours = render_text(frozen, messages, generate=True, bos="<s>", eos="<|end|>")
                assert reply.json()["prompt"] == ours.removeprefix("<s>")
    finally:
        server.terminate()
        server.wait()
