"""Which models of an Ollama can be tuned, and a specialist beside its base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_origins import write_gguf

from pipeline.bases import survey
from pipeline.bases.survey import Candidate, best, memory, seconds
from pipeline.cli.commands import main
from pipeline.common.values import digest_of_file
from pipeline.release import base_beside
from pipeline.tools import server
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.ollama import Ollama


@pytest.fixture
def models(fake: FakeOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeOllama:
    """One that can be tuned, one that cannot, a specialist."""
    files = {
        "plain:latest": write_gguf(tmp_path / "plain", quantized=True),
        "experts:8x7b": write_gguf(tmp_path / "experts", llama__expert_count=8),
        "mine:v1": write_gguf(tmp_path / "mine"),
    }
    for name, file in files.items():
        digest = digest_of_file(file)
        fake.blob(digest).write_bytes(file.read_bytes())
        fake.models[name] = {"gguf": digest, "system": "", "parameters": {}, "license": ""}
    monkeypatch.setattr(server, "ensure", lambda say: fake.address)
    return fake


def test_what_can_be_tuned_comes_first_and_the_rest_says_why_not(
    models: FakeOllama, ollama: Ollama
) -> None:
    found = survey.survey(ollama, lambda tag: tag.startswith("mine:"))
    assert [one.tag for one in found] == ["plain:latest", "experts:8x7b", "mine:v1"]
    plain, experts, mine = found
    assert (plain.architecture, plain.weights, plain.why_not) == ("LlamaForCausalLM", "Q4_0", "")
    assert plain.memory == memory(plain.parameters)
    assert "a mixture of 8 experts" in experts.why_not
    assert mine.why_not == "a specialist that was made here"


def sized(tag: str, billions: float, **more: str) -> Candidate:
    parameters = int(billions * 1e9)
    return Candidate(
        tag=tag,
        size=1,
        parameters=parameters,
        memory=memory(parameters),
        memory_4bit=memory(parameters, 0.6),
        seconds=seconds(parameters),
        **more,
    )


def test_the_largest_that_fits_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "total_memory", lambda: 16_000_000_000)
    monkeypatch.setattr(survey.os, "sched_getaffinity", lambda _: {0, 1})
    found = [sized("small", 1), sized("large", 70), sized("odd", 3, why_not="x"), sized("ok", 2)]
    chosen = best(found)
    assert chosen
    assert chosen.tag == "ok"
    on_gpu = best(found, 80_000_000_000)
    assert on_gpu
    assert on_gpu.tag == "large"
    assert best([sized("large", 70)]) is None


def test_the_command_names_the_next_one(models: FakeOllama) -> None:
    told = CliRunner().invoke(main, ["bases"])
    assert told.exit_code == 0
    assert "next:  make specialist DATA=FILE.jsonl BASE=" in told.output
    rows = json.loads(CliRunner().invoke(main, ["bases", "--json"]).output)
    assert [row["tag"] for row in rows if row["best"]] == ["mine:v1"]  # no record says it is ours
    assert {row["tag"] for row in rows} == set(models.models)


def test_bases_that_were_registered_to_be_asked_are_removed_again(
    fake: FakeOllama, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"gguf": "0" * 64, "system": "", "parameters": {}, "license": ""}
    fake.models |= {"specialist-base/abc:latest": model, "other:latest": model}
    assert base_beside.registered(ollama) == ["specialist-base/abc:latest"]
    monkeypatch.setenv("OLLAMA_HOST", fake.address.netloc)
    told = CliRunner().invoke(main, ["gc", "--dry-run"])
    assert "would remove specialist-base/abc:latest from Ollama" in told.output
    assert "specialist-base/abc:latest" in fake.models
    CliRunner().invoke(main, ["gc"])
    assert list(fake.models) == ["other:latest"]


def test_the_base_of_a_record_that_does_not_tell_it_is_not_guessed(ollama: Ollama) -> None:
    from pipeline.common.errors import BadInput
    from pipeline.release.version import Version

    version = Version(version=1, name="x", manifest="m", ollama="u")
    with pytest.raises(BadInput, match="does not tell its base"):
        base_beside.base_of(version, ollama, [Path("/")])


def test_a_base_that_was_named_from_the_working_directory_is_found(tmp_path: Path) -> None:
    """`make --base ./x.gguf` starts there, FROM in a Modelfile at the Modelfile."""
    from pipeline.bases.reference import resolve
    from pipeline.release.version import Version

    write_gguf(tmp_path / "x.gguf")
    digest = resolve("./x.gguf", tmp_path).digest
    facts = {"version": 1, "name": "n", "manifest": "m", "ollama": "u", "origin": "./x.gguf"}
    version = Version(**facts, origin_digest=digest)
    found = base_beside.found(version, [tmp_path / "modelfiles", tmp_path])
    assert found.path == tmp_path / "x.gguf"
