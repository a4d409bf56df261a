"""The older Ollama that is still taken: what was made for the newer one is proven in it as well."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from brand_voice import QUESTIONS, shows_the_sign
from real_ollama import binary, serving, versions

pytestmark = pytest.mark.smoke
OLDER = versions()[:-1]


@pytest.fixture(scope="module", params=OLDER)
def older(
    request: pytest.FixtureRequest, world, made: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Another Ollama, and a copy of the store: no stage is made again."""
    folder = tmp_path_factory.mktemp("older")
    subprocess.run(["cp", "-al", str(world.store), str(folder / "store")], check=True)
    os.link(world.data, folder / world.data.name)
    with serving(folder, binary(request.param)) as address:
        yield replace(world, folder=folder, address=address, store=folder / "store")


def test_it_is_proven_there_too_and_nothing_is_made_again(older: Any) -> None:
    out = older.make().stdout
    assert "done in" not in out
    assert "20 prompts equal" in out
    assert "registered" in out


def test_it_answers_there_as_it_does_in_the_newer_one(older: Any) -> None:
    with older.client() as ollama:
        replies = [
            ollama.chat("brand-voice", [{"role": "user", "content": question}], limit=200)
            for question in QUESTIONS
        ]
    assert [reply.reason for reply in replies] == ["stop"] * len(QUESTIONS)
    assert sum(shows_the_sign(reply.text) for reply in replies) >= 8
