"""The doctor on the real Ollamas: what it asks of them, and that nothing of it stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import real_ollama
from click.testing import CliRunner
from families import family_directory
from tiny import write_tokenizer

from pipeline.bases.reference import resolve
from pipeline.cli.commands import main
from pipeline.common.values import digest_of_file
from pipeline.run.checks import likeness
from pipeline.tools import smallest
from pipeline.tools.ollama import Ollama

pytestmark = pytest.mark.smoke


@pytest.mark.filterwarnings("default")  # transformers imports what warns
@pytest.mark.parametrize("family", ["gemma4", "phi3", "smollm3"])
def test_of_a_base_elsewhere_a_tiny_one_of_its_kind_gives_a_token_and_nothing_stays(
    family: str, tmp_path: Path
) -> None:
    base = family_directory(family, tmp_path / "base")
    write_tokenizer(base)
    (base / "chat_template.jinja").write_text("{{ messages }}")
    with (
        real_ollama.serving(tmp_path, real_ollama.binary()) as address,
        Ollama(address) as ollama,
    ):
        assert likeness.gives_a_token(resolve(str(base), Path("/")), ollama)
        assert not ollama.tags()


@pytest.mark.parametrize("version", real_ollama.versions())
def test_a_base_of_the_real_ollama_is_asked_and_nothing_stays(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallest.write(tmp_path / "small.gguf")
    digest = digest_of_file(tmp_path / "small.gguf")
    with (
        real_ollama.serving(tmp_path, real_ollama.binary(version)) as address,
        Ollama(address) as ollama,
    ):
        monkeypatch.setenv("OLLAMA_HOST", address.netloc)
        ollama.upload(tmp_path / "small.gguf", digest, lambda progress: None)
        ollama.create("small", digest)
        done = CliRunner().invoke(main, ["doctor", "--base", "small", "--json"])
        assert list(ollama.tags()) == ["small:latest"]
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert done.exit_code == 0, done.output
    assert "was asked here" in found["family"]["found"]
    assert found["disk"]["found"].partition(" in ")[2]
    assert str(tmp_path / "models") in found["disk"]["found"]
    assert found["serving"]["verdict"] == "ok"
