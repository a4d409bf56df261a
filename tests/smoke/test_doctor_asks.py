"""The doctor on the real Ollamas: what it asks of them, and that nothing of it stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import real_ollama
from click.testing import CliRunner

from pipeline.cli.commands import main
from pipeline.common.values import digest_of_file
from pipeline.tools import smallest
from pipeline.tools.ollama import Ollama

pytestmark = pytest.mark.smoke


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
