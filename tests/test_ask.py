"""A specialist and its base asked the same, on the fake Ollama and on the real ones."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_ollama
from click.testing import CliRunner
from made import specialist
from rich.console import Console

from pipeline.bases.reference import resolve
from pipeline.cli.columns import answers
from pipeline.cli.commands import main
from pipeline.release.publish import release
from pipeline.tools import smallest
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.host import Address
from pipeline.tools.ollama import Ollama


@pytest.fixture(
    params=["fake", *(pytest.param(v, marks=pytest.mark.smoke) for v in real_ollama.versions())]
)
def served(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Address]:
    """An Ollama with the specialist `tiny`, which says ok; its base is a GGUF that says no."""
    smallest.write(tmp_path / "base.gguf", "no")
    base = resolve(str(tmp_path / "base.gguf"), tmp_path)
    made = specialist(tmp_path / "made").model_copy(
        update={"origin": str(tmp_path / "base.gguf"), "origin_digest": base.digest}
    )
    server = (
        FakeOllama(tmp_path / "models")
        if request.param == "fake"
        else real_ollama.serving(tmp_path, real_ollama.binary(request.param))
    )
    with server as running:
        address = running.address if isinstance(running, FakeOllama) else running
        monkeypatch.setenv("OLLAMA_HOST", address.netloc)
        with Ollama(address) as ollama:
            release(made, ollama)
        yield address


def ask() -> str:
    done = CliRunner().invoke(main, ["ask", "tiny", "Hello"])
    assert done.exit_code == 0, done.output
    return done.output


def beside(address: Address) -> list[str]:
    with Ollama(address) as ollama:
        return [tag for tag in ollama.tags() if tag.startswith("specialist-base/")]


def test_both_answer_and_the_base_is_removed_by_gc(
    served: Address, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    is_fake = request.node.callspec.params["served"] == "fake"  # it says ok for any model
    said = ask()
    titles = [line for line in said.splitlines() if line.startswith("— ")]
    assert titles == [f"— base ({tmp_path / 'base.gguf'}) —", "— tiny —"]
    answers = [part.partition(" —\n")[2].strip() for part in said.split("— ")[1:]]
    assert answers == ["ok" if is_fake else "no", "ok"]
    assert len(beside(served)) == 1
    again = ask()
    assert again == said
    assert len(beside(served)) == 1
    assert "removed specialist-base/" in CliRunner().invoke(main, ["gc"]).output
    assert beside(served) == []


def test_a_base_that_was_registered_to_be_asked_is_not_proposed(served: Address) -> None:
    ask()
    told = CliRunner().invoke(main, ["bases"]).output
    row = next(line for line in told.splitlines() if line.startswith("specialist-base/"))
    assert "made here" in row
    assert "BASE=specialist-base/" not in told


def test_a_base_that_has_gone_is_told_and_the_specialist_answers(
    served: Address, tmp_path: Path
) -> None:
    (tmp_path / "base.gguf").unlink()
    said = ask()
    assert "the base is not asked" in said
    assert "ok" in said.partition("— tiny —")[2]


def test_on_a_terminal_two_answers_stand_side_by_side() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with answers(["base", "[bold]tiny"], console) as told:
        told[0]("It is red [/link], and has")
        told[1]("Mended.")
        told[0](" two sleeves.")
    lines = [line for line in out.getvalue().splitlines() if "│" in line]
    assert any("It is red [/link], and has two" in line and "Mended." in line for line in lines)
    assert "[bold]tiny" in out.getvalue()


def test_a_narrow_terminal_shows_one_below_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    with answers(["base", "tiny"], Console(width=40)) as told:
        told[0]("red\n")
        told[1]("blue\n")
    assert capsys.readouterr().out == "— base —\nred\n— tiny —\nblue\n\n"
