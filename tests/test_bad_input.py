"""Bad input that no other file has: seen before anything is started, said in two lines."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny import tiny_base_directory

from pipeline.cli import commands as cli
from pipeline.common import digests
from pipeline.tools import server

ROW = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Day"}]}'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a tiny base and data; to reach for Ollama is a failure."""

    def reached(*_: object) -> None:
        raise AssertionError("Ollama was reached for")

    monkeypatch.setattr(server, "ensure", reached)
    monkeypatch.chdir(tmp_path)
    tiny_base_directory(tmp_path / "base")
    (tmp_path / "rows.jsonl").write_text(ROW + "\n")
    return tmp_path


def specialist(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


def make(*more: str, base: str = "./base") -> Result:
    return specialist("make", "support", "--data", "rows.jsonl", "--base", base, *more)


def refused(done: Result, words: str) -> None:
    assert done.exit_code == 1, done.output
    assert words in done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.strip().splitlines()) == 2


def test_a_good_run_reaches_for_ollama(folder: Path) -> None:
    """The other tests here would pass for nothing if it did not."""
    assert isinstance(make().exception, AssertionError)


def test_a_base_of_an_unknown_architecture_is_refused_before_ollama_is_started(
    folder: Path,
) -> None:
    config = json.loads((folder / "base/config.json").read_text())
    config["architectures"] = ["BloomForCausalLM"]
    (folder / "base/config.json").write_text(json.dumps(config))
    refused(make(), "the architecture BloomForCausalLM is not supported")


@pytest.mark.parametrize("base", ["./nowhere", "./rows.jsonl", "hub:a/b", "x y", "x.gguf"])
def test_a_base_that_is_not_there_is_refused_before_ollama_is_started(
    folder: Path, base: str
) -> None:
    refused(make(base=base), base)


def test_a_wrong_row_is_refused_before_ollama_is_started(folder: Path) -> None:
    (folder / "rows.jsonl").write_text(f"{ROW}\n{ROW[:-2]}\n")
    refused(make(), "rows.jsonl:2: broken JSON at column")


def test_a_store_that_cannot_be_a_folder_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = digests.SETTLED * 2 / 1e9
    os.utime(folder / "base/model.safetensors", (0, settled))  # old enough to be remembered
    monkeypatch.setenv("SPECIALIST_HOME", str(folder / "rows.jsonl" / "store"))
    refused(make(), "rows.jsonl")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_what_is_wrong_with_the_disk_is_no_trace(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), "/the/store")

    monkeypatch.setattr("pipeline.intake.source.locate", broken)
    refused(make(), f"/the/store: {os.strerror(code)}")
