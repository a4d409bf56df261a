"""A model of the layout of Ollama's own library, which sees: the real Ollama takes it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import ollama_gemma3
import pytest
from PIL import Image
from real_ollama import binary, serving, versions
from test_bases import TINY, make

from pipeline.common.values import Conversation, digest_of_file
from pipeline.tools.gguf_layout import layout
from pipeline.tools.ollama import Ollama

pytestmark = pytest.mark.smoke
QUESTION: Conversation = [{"role": "user", "content": "the word"}]


@pytest.fixture(scope="module", params=versions())
def seeing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ollama]:
    """An Ollama that has `eyes`, made as `ollama create` makes it of a Modelfile."""
    folder = tmp_path_factory.mktemp("eyes")
    ollama_gemma3.write(folder / "model.gguf")
    with serving(folder, binary(request.param)) as address, Ollama(address) as ollama:
        create(ollama, folder / "model.gguf")
        yield ollama


def create(ollama: Ollama, file: Path) -> None:
    digest = digest_of_file(file)
    ollama.upload(file, digest, lambda progress: None)
    body = {
        "model": "eyes",
        "files": {"model.gguf": f"sha256:{digest}"},
        "template": ollama_gemma3.TEMPLATE,
        "parameters": ollama_gemma3.PARAMETERS,
        "stream": False,
    }
    answer = httpx.post(f"{ollama.address.url}/api/create", json=body, timeout=60, trust_env=False)
    assert answer.json() == {"status": "success"}


def test_ollama_says_that_it_sees(seeing: Ollama) -> None:
    assert seeing.show("eyes")["capabilities"] == ["completion", "vision"]


def test_it_answers_a_text(seeing: Ollama) -> None:
    reply = seeing.chat("eyes", QUESTION, limit=8)
    assert reply.text
    assert reply == seeing.chat("eyes", QUESTION, limit=8)


def test_what_it_answers_depends_on_what_it_sees(seeing: Ollama) -> None:
    red, blue = (asked(seeing, picture(color)) for color in ((255, 0, 0), (0, 0, 255)))
    assert red == asked(seeing, picture((255, 0, 0)))
    assert red != blue


def asked(ollama: Ollama, image: bytes, name: str = "eyes") -> str:
    """The greedy answer to a question about a picture."""
    message = {**QUESTION[0], "images": [base64.b64encode(image).decode()]}
    options = {"temperature": 0, "top_k": 1, "num_predict": 8}
    body = {"model": "eyes", "messages": [message], "options": options, "stream": False}
    answer = httpx.post(f"{ollama.address.url}/api/chat", json=body, timeout=60, trust_env=False)
    text: str = answer.json()["message"]["content"]
    return text


def picture(color: tuple[int, int, int]) -> bytes:
    """A PNG of one color."""
    out = io.BytesIO()
    Image.new("RGB", (ollama_gemma3.EYES["image_size"],) * 2, color).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all Ollamas: it is trained once."""
    return tmp_path_factory.mktemp("store")


def test_a_specialist_of_it_keeps_its_eyes(seeing: Ollama, store: Path) -> None:
    """Its template is learnt from Ollama; what sees goes through byte for byte."""
    told = make("sighted", "eyes", seeing.address, store, *TINY)
    assert "registered as sighted:v" in told
    assert seeing.show("sighted")["capabilities"] == ["completion", "vision"]
    before, after = (layout(seeing.stored_blob(name)) for name in ("eyes", "sighted"))
    assert before.tensors.keys() == after.tensors.keys()
    eyes = [name for name in before.tensors if name.startswith(("v.", "mm."))]
    assert len(eyes) > 10
    for name in [*eyes, "token_embd.weight", "output_norm.weight"]:
        assert before.read(before.tensors[name]) == after.read(after.tensors[name]), name
    red, blue = (asked(seeing, picture(color), "sighted") for color in ((255, 0, 0), (0, 0, 255)))
    assert red
    assert blue
