"""What every test gets: a store of its own, and the tiny base on request."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import tiny_base_directory

from pipeline.common import places
from pipeline.made.artifacts import Base
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.ollama import Ollama

# hypothesis would write a folder into the checkout
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{tempfile.gettempdir()}/hypothesis-{os.getuid()}"


def pytest_unconfigure() -> None:
    """Close what llama_cpp leaves open, which would be the last words of every run."""
    if module := sys.modules.get("llama_cpp._utils"):
        module.outnull_file.close()
        module.errnull_file.close()


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store; the cache of built tools stays the machine's own."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("SPECIALIST_HOME", str(folder / "store"))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.delenv("MAKELEVEL", raising=False)  # errors would tell of make's way to say flags
    return places.home()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeOllama]:
    """An Ollama of a tenth of a second, with the faults that a test gives it."""
    with FakeOllama(tmp_path / "models") as server:
        yield server


@pytest.fixture
def ollama(fake: FakeOllama) -> Iterator[Ollama]:
    """The client that speaks to it."""
    with Ollama(fake.address) as door:
        yield door


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Hugging Face directory, made once. Read it, never write to it."""
    return tiny_base_directory(tmp_path_factory.mktemp("tiny") / "tiny-random")


@pytest.fixture(scope="session")
def tiny_base(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The base that `fetch` makes of it, made once. Read it, never write to it."""
    from pipeline.bases.reference import resolve
    from pipeline.made.stage import Where
    from pipeline.stages import fetch
    from pipeline.stages.settings import Fetch

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECIALIST_HOME", str(tmp_path_factory.mktemp("store")))
        reference = resolve(str(tiny_directory), Path("/"))
        out = tmp_path_factory.mktemp("tiny-base")
        return fetch.run(out, Fetch(), reference, where=Where())


@pytest.fixture
def smallest_base(tmp_path: Path) -> Base:
    """The base of the smallest model, in a tenth of a second: a byte is a token."""
    from made import specialist

    from pipeline.tools import smallest

    base = specialist(tmp_path / "smallest").base
    smallest.write(base.vocab)
    return base
