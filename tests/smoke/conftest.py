"""The real chain on the real base in a real Ollama, run once for all smoke tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_ollama import binary, environment, serving

from pipeline.tools.host import Address
from pipeline.tools.ollama import Ollama

PROJECT = Path(__file__).parent.parent.parent
ROWS = 104  # of the shipped data: enough to show the sign, half the time of all


@dataclass(frozen=True)
class World:
    """A user's machine: an Ollama, a store, a copy of the project's modelfiles and data."""

    folder: Path
    address: Address
    store: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            **environment(self.folder, self.address),
            "HOME": os.environ.get("HOME", str(self.folder)),
            "SPECIALIST_HOME": str(self.store),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }

    @property
    def data(self) -> Path:
        return self.folder / "brand-voice.jsonl"

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`specialist …`, as a user types it."""
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *arguments],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def make(self, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("make", "brand-voice", "--data", str(self.data), *more, check=check)

    def ollama(self, *arguments: str) -> str:
        """`ollama …`, the command."""
        done = subprocess.run(
            [binary(), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout

    def client(self) -> Ollama:
        return Ollama(self.address)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An Ollama on a free port with an empty model store, and an empty store of ours.

    SPECIALIST_SMOKE_STORE names a store that is kept between runs: `fetch` is then not repeated.
    """
    folder = tmp_path_factory.mktemp("world")
    kept = os.environ.get("SPECIALIST_SMOKE_STORE")
    lines = (PROJECT / "data/brand-voice.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "brand-voice.jsonl").write_text("\n".join(lines[:ROWS]) + "\n", encoding="utf-8")
    assert all(json.loads(line) for line in lines)
    with serving(folder) as address:
        yield World(folder, address, Path(kept) if kept else folder / "store")


@pytest.fixture(scope="session")
def made(world: World) -> str:
    """The output of the run that made brand-voice."""
    return world.make().stdout
