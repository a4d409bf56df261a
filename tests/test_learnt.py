"""Chat templates learnt from the server that renders them: the real Ollama, its Go templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import real_ollama
from made import specialist

from pipeline import chain
from pipeline.bases.located import Installed
from pipeline.bases.reference import Reference, resolve
from pipeline.common import places
from pipeline.common.errors import BadInput, ProofFailed
from pipeline.common.values import Conversation, digest_of_file
from pipeline.intake.source import locate
from pipeline.made.artifacts import Base, Dataset, Specialist
from pipeline.release.publish import release
from pipeline.run.engine import Engine
from pipeline.run.store import Store
from pipeline.spec import spec
from pipeline.stages import fetch
from pipeline.stages.fetching import served_base
from pipeline.stages.fetching.frozen import freeze
from pipeline.stages.fetching.learnt import Oracle, learn, talks
from pipeline.stages.settings import Fetch
from pipeline.tools import server, smallest
from pipeline.tools.jinja import render_text
from pipeline.tools.ollama import Ollama

LLAMA3 = (
    "{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}"
    "<|eot_id|>\n{{- end }}<|start_header_id|>assistant<|end_header_id|>\n\n"
)
GEMMA = """{{- $system := "" }}
{{- range .Messages }}
{{- if eq .Role "system" }}
{{- if not $system }}{{ $system = .Content }}
{{- else }}{{ $system = printf "%s\\n\\n%s" $system .Content }}
{{- end }}
{{- continue }}
{{- else if eq .Role "user" }}<start_of_turn>user
{{- if $system }}
{{ $system }}
{{- $system = "" }}
{{- end }}
{{- else if eq .Role "assistant" }}<start_of_turn>model
{{- end }}
{{ .Content }}<end_of_turn>
{{ end }}<start_of_turn>model
"""
CHATML = """{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
MISTRAL = """[INST] {{ range $index, $_ := .Messages }}
{{- if eq .Role "system" }}{{ .Content }}

{{ else if eq .Role "user" }}{{ .Content }}[/INST]
{{- else if eq .Role "assistant" }} {{ .Content }}</s>[INST] {{ end }}
{{- end }}"""
LEGACY = (
    "{{ if .System }}### {{ .System }}\n{{ end }}{{ if .Prompt }}>> {{ .Prompt }}\n{{ end }}"
    "<< {{ .Response }}~\n"
)
PRIVATE = (
    "{{ range .Messages }}{{ if eq .Role \"system\" }}Order: {{ .Content }} — done.\\ 'so'\n"
    '{{ else if eq .Role "user" }}«{{ .Content }}»\n{{ else }}» {{ .Content }} ~\n{{ end }}'
    "{{ end }}» "
)
TURNS = (
    "{{ range .Messages }}<|turn|>{{ .Role }}\n{{ .Content }}<|end|>\n{{ end }}<|turn|>assistant\n"
)
TAKEN = {
    "llama 3": LLAMA3,
    "gemma": GEMMA,
    "chatml": CHATML,
    "mistral": MISTRAL,
    "of before there were messages": LEGACY,
    "private": PRIVATE,
}
REFUSED = {
    "writes the day": (CHATML + "{{ currentDate }}", r"it writes the day \(currentDate\)"),
    "drops turns": (
        "{{ range $i, $m := .Messages }}{{ if lt $i 3 }}[{{ $m.Content }}]{{ end }}{{ end }}:",
        "changes a turn: drops it",
    ),
    "counts messages": (
        "{{ len .Messages }}{{ range .Messages }}[{{ .Content }}]{{ end }}:",
        "between start and user it writes '1\\['",
    ),
    "counts beyond what shows the constants": (
        "{{ range .Messages }}[{{ .Content }}]{{ end }}{{ if gt (len .Messages) 7 }}!{{ end }}:",
        "Ollama writes '!:', and what was learnt of it ':'",
    ),
    "writes some texts otherwise": (
        '{{ range .Messages }}{{ if eq .Content "x" }}<x>{{ else }}[{{ .Content }}]{{ end }}'
        "{{ end }}:",
        "Ollama writes '<x>",
    ),
    "does not end an answer": (
        "Q: {{ range .Messages }}{{ .Content }}{{ end }}",
        "puts nothing behind an answer",
    ),
}


@pytest.fixture(scope="module", params=real_ollama.versions())
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Oracle]]:
    """What a real Ollama makes of conversations, by a template in Go's language."""
    folder = tmp_path_factory.mktemp("ollama")
    file = folder / "bare.gguf"
    smallest.write(file, template="")
    digest = digest_of_file(file)
    with (
        real_ollama.serving(folder, real_ollama.binary(request.param)) as address,
        Ollama(address) as ollama,
    ):
        ollama.upload(file, digest, lambda progress: None)

        def by(template: str = "", **renders: str) -> Oracle:
            ollama.create("learn:it", digest, renders=renders or {"template": template})
            return lambda talk: ollama.render("learn:it", talk, think=False)

        yield by


@pytest.mark.smoke
@pytest.mark.parametrize("name", TAKEN)
def test_a_go_template_is_learnt_to_the_letter(served: Callable[[str], Oracle], name: str) -> None:
    oracle = served(TAKEN[name])
    jinja = learn(oracle, name, source=TAKEN[name])
    frozen = freeze(jinja, name)
    more: Conversation = [
        {"role": "system", "content": 'Be "brief".'},
        {"role": "user", "content": " Never\tseen\n"},
        {"role": "assistant", "content": "before: 'it' \\n"},
        {"role": "user", "content": "…"},
    ]
    for talk in (more, more[1:], more[:2]):
        assert render_text(frozen, talk, generate=True) == oracle(talk)


RENDERERS = ["gemma4-small", "gemma4-large", "qwen3.5", "lfm2", "cogito", "glm-4.7", "olmo3"]


@pytest.mark.smoke
@pytest.mark.parametrize("name", RENDERERS)
def test_code_of_ollamas_own_is_learnt_as_a_template_is(
    served: Callable[..., Oracle], name: str
) -> None:
    oracle = served(renderer=name, parser="passthrough")
    frozen = freeze(learn(oracle, name), name, bos="<bos>")
    talk: Conversation = [{"role": "user", "content": "Never seen."}]
    assert render_text(frozen, talk, generate=True) == oracle(talk)


@pytest.mark.smoke
@pytest.mark.parametrize("why", REFUSED)
def test_a_template_of_another_shape_is_refused_with_the_first_difference(
    served: Callable[[str], Oracle], why: str
) -> None:
    template, words = REFUSED[why]
    with pytest.raises(BadInput, match=words) as caught:
        learn(served(template), "mine", source=template)
    assert "--template plain" in caught.value.next_step


@pytest.mark.smoke
def test_what_a_template_does_otherwise_in_rare_conversations_is_not_taken_from_there(
    served: Callable[[str], Oracle],
) -> None:
    """Gemma's writes a system message into the next question, behind an assistant's opening."""
    jinja = learn(served(GEMMA), "gemma")
    talk: Conversation = [
        {"role": role, "content": "x"} for role in ("system", "assistant", "user")
    ]
    assert render_text(jinja, talk[1:], generate=True).startswith("<start_of_turn>model\nx")
    with pytest.raises(BadInput, match="the assistant may not speak here"):
        render_text(jinja, talk, generate=True)


def registered(folder: Path, ollama: Ollama, template: str) -> Reference:
    """A base in Ollama that has no Jinja."""
    file = folder / "bare.gguf"
    smallest.write(file, template="")
    ollama.upload(file, digest_of_file(file), lambda progress: None)
    ollama.create("mine", digest_of_file(file), system="Not this.", renders={"template": template})
    return resolve("mine", Path("/"))


@pytest.fixture(params=real_ollama.versions())
def ollama(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ollama]:
    """A real Ollama that the stages find."""
    with (
        real_ollama.serving(tmp_path, real_ollama.binary(request.param)) as address,
        Ollama(address) as door,
    ):
        monkeypatch.setattr(server, "ensure", lambda say, environ=None: address)
        yield door


@pytest.mark.smoke
def test_a_base_in_ollama_is_learnt_without_its_system_and_left_as_it_was(
    tmp_path: Path, ollama: Ollama
) -> None:
    reference = registered(tmp_path, ollama, TURNS)
    before = ollama.tags()
    assert served_base.renders(reference) == {"template": TURNS}
    template = fetch._template("", reference, "<s>", "<|end|>", Fetch())
    assert "Not this." not in template
    assert ollama.tags() == before
    refused = registered(tmp_path, ollama, REFUSED["drops turns"][0])
    before = ollama.tags()
    with pytest.raises(BadInput, match="drops it"):
        fetch._template("", refused, "<s>", "<|end|>", Fetch())
    assert ollama.tags() == before
    asked = Fetch(template="plain")
    assert "### Question" in fetch._template("", refused, "<s>", "<|end|>", asked)


@pytest.mark.smoke
def test_every_prompt_that_is_trained_is_compared_with_the_servers(
    tmp_path: Path, ollama: Ollama
) -> None:
    reference = registered(tmp_path, ollama, TURNS)
    template = fetch._template("", reference, "<s>", "<|end|>", Fetch())
    made = specialist(tmp_path / "x", template=template)
    rows = made.data.rows
    assert served_base.check_rendered(reference, made.base, made.data, made.system) == rows
    other = specialist(tmp_path / "y", template=template.replace("<|turn|>user", "<|turn|>U"))
    with pytest.raises(BadInput, match=r"the row that asks “Question .*Ollama writes 'user"):
        served_base.check_rendered(reference, other.base, other.data, other.system)


@pytest.mark.smoke
def test_a_specialist_of_a_family_with_a_forced_renderer_is_proven_with_it(
    tmp_path: Path, ollama: Ollama
) -> None:
    """Gemma 4: one plain prompt, though Ollama's own parser would have it think unasked."""
    reference = registered(tmp_path, ollama, TURNS)
    gemma = reference.model_copy(update={"architecture": "Gemma4ForCausalLM"})
    forced = served_base.forced(gemma)
    assert forced == {"renderer": "gemma4-small", "parser": "passthrough"}
    template = fetch._template("{{ messages }}", gemma, "<bos>", "<eos>", Fetch())
    made = specialist(tmp_path / "x", template=template, bos_text="<bos>", **forced)
    smallest.write(made.packed.served.path, template=template)
    assert release(made, ollama).proof
    text = ollama.show("tiny")["modelfile"]
    assert "RENDERER gemma4-small" in text and "PARSER passthrough" in text
    unasked = made.model_copy(
        update={"name": "other", "base": made.base.model_copy(update={"parser": "gemma4"})}
    )
    with pytest.raises(ProofFailed, match="the prompt of"):
        release(unasked, ollama)


def test_the_larger_ones_have_the_other_renderer_whatever_they_are_called(tmp_path: Path) -> None:
    smallest.write(tmp_path / "e2b.gguf")
    small = resolve(str(tmp_path / "e2b.gguf"), Path("/"))
    large = small.model_copy(
        update={"architecture": "Gemma4ForConditionalGeneration", "parameters": 31_000_000_000}
    )
    assert served_base.forced(large)["renderer"] == "gemma4-large"
    assert served_base.forced(small) == served_base.renders(small) == {}


def test_the_conversations_that_decide_have_all_lengths_and_kinds() -> None:
    found = list(talks())
    assert {len(talk) for talk in found} >= {1, 2, 3, 5, 9}
    texts = {turn["content"] for talk in found for turn in talk}
    assert "" in texts and any(text != text.strip() for text in texts)
    assert any(not text.isascii() for text in texts)


class Ready(Engine):
    """Everything is made; notes what was checked before which stage."""

    def __init__(self, made: Specialist) -> None:
        self.made, self.order, self.touched = made, list[str](), list[str]()
        self.store = Store()

    def do(self, stage: Any, settings: Any, **inputs: Any) -> Any:
        self.order.append(stage.name)
        found = {"fetch": self.made.base, "prepare": self.made.data, "tune": self.made.adapter}
        return {**found, "intake": self.made.rows, "pack": self.made.packed}[stage.name]

    def run(self, stage: Any, job: Any) -> None:
        raise AssertionError


def test_the_rows_are_compared_between_prepare_and_tune_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a base that only Ollama can render; nobody else's Ollama is asked."""
    made, source = specialist(tmp_path / "x"), locate(tmp_path / "x" / "rows.jsonl")
    smallest.write(tmp_path / "bare.gguf", template="")
    wish = spec.read("tiny", places.MODELFILES, base=str(tmp_path / "bare.gguf"))
    plain = resolve(wish.base, Path("/"))
    mine = Installed(tag="mine:latest", manifest="m", template=TURNS)
    engine = Ready(made)

    def compare(reference: Reference, base: Base, data: Dataset, system: str) -> int:
        engine.order.append("compare")
        return 1

    monkeypatch.setattr(served_base, "check_rendered", compare)
    for reference in (plain, plain.model_copy(update={"installed": mine})):
        monkeypatch.setattr(chain, "resolve", lambda *_, found=reference: found)
        chain.build(wish, source, engine)
    chain.build(wish, source, engine)
    stages = ["intake", "fetch", "prepare", "tune", "pack"]
    assert engine.order == [*stages, *stages[:3], "compare", *stages[3:], *stages]
    engine = Ready(made)  # as the next run has it
    chain.build(wish, source, engine)
    assert engine.order == stages
