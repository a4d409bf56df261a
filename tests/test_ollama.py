"""The door to Ollama. One contract is held by the fake at once, and by the real one (smoke)."""

from __future__ import annotations

import inspect
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest
import real_ollama

from pipeline.common import places
from pipeline.common.errors import BadInput, Missing, PipelineError, ProofFailed, ToolFailed
from pipeline.common.progress import Progress
from pipeline.common.values import Conversation, digest_of_file
from pipeline.tools import smallest
from pipeline.tools.capable import NAME as TRIAL
from pipeline.tools.capable import capable
from pipeline.tools.fake_ollama import FAULTS, FakeOllama
from pipeline.tools.host import Address
from pipeline.tools.ollama import Ollama
from pipeline.tools.wire import door

HELLO: Conversation = [{"role": "user", "content": 'Say "hi" 🦊\r\n '}]
PROMPT = '<|turn|>user\nSay "hi" 🦊\r\n <|end|>\n<|turn|>assistant\n'


SERVERS = [
    *(("fake", version) for version in places.OLLAMAS),
    *(pytest.param(("real", v), marks=pytest.mark.smoke) for v in real_ollama.versions()),
]


@pytest.fixture(params=SERVERS, ids=lambda server: "-".join(server))
def ollama(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ollama]:
    kind, version = request.param
    if kind == "fake":
        with FakeOllama(tmp_path / "m", version=version) as fake, Ollama(fake.address) as door:
            yield door
    else:
        with (
            real_ollama.serving(tmp_path, real_ollama.binary(version)) as address,
            Ollama(address) as door,
        ):
            yield door


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    smallest.write(tmp_path / "smallest.gguf")
    return tmp_path / "smallest.gguf"


def quiet(progress: Progress) -> None:
    pass


def register(ollama: Ollama, gguf: Path, name: str = "tiny:candidate", system: str = "") -> None:
    ollama.upload(gguf, digest_of_file(gguf), quiet)
    ollama.create(
        name, digest_of_file(gguf), system=system, parameters={"num_ctx": 512}, license="MIT"
    )


def test_the_contract_of_files_and_names(ollama: Ollama, gguf: Path) -> None:
    digest = digest_of_file(gguf)
    seen: list[Progress] = []
    assert ollama.version()
    assert ollama.tags() == {}
    assert not ollama.has_blob(digest)
    ollama.upload(gguf, digest, seen.append)
    assert seen[-1].done == seen[-1].total == gguf.stat().st_size
    assert ollama.has_blob(digest)
    ollama.upload(gguf, digest, seen.append)  # has it: nothing is sent
    register(ollama, gguf)
    assert list(ollama.tags()) == ["tiny:candidate"]
    assert ollama.exists("TINY:candidate")
    assert not ollama.exists("tiny")
    ollama.copy("tiny:candidate", "tiny")
    assert ollama.digest("tiny") == ollama.digest("tiny:candidate")
    ollama.delete("tiny:candidate")
    assert list(ollama.tags()) == ["tiny:latest"]
    with pytest.raises(ToolFailed, match="not found"):
        ollama.delete("tiny:candidate")
    with pytest.raises(ToolFailed, match="not found"):
        ollama.show("tiny:candidate")


def test_the_contract_of_prompts_and_answers(ollama: Ollama, gguf: Path) -> None:
    register(ollama, gguf, system="Be brief.")
    shown = ollama.show("tiny:candidate")
    assert shown["template"] == smallest.TEMPLATE
    assert shown["system"] == "Be brief."
    assert ollama.render("tiny:candidate", HELLO) == "<|turn|>system\nBe brief.<|end|>\n" + PROMPT
    own: Conversation = [{"role": "system", "content": "Other."}, *HELLO]
    assert ollama.render("tiny:candidate", own) == "<|turn|>system\nOther.<|end|>\n" + PROMPT
    reply = ollama.chat("tiny:candidate", HELLO, limit=8)
    assert (reply.text, reply.reason, reply.answer_tokens) == ("ok", "stop", 3)
    prompt = "<s>" + "<|turn|>system\nBe brief.<|end|>\n" + PROMPT
    bytes_only = prompt
    for marker in smallest.CONTROL:
        bytes_only = bytes_only.replace(marker, "\0")  # one token each, as a byte or a space is
    assert reply.prompt_tokens == len(bytes_only.encode())
    assert ollama.chat("tiny:candidate", HELLO, limit=1).reason == "length"
    run = ollama.run("tiny:candidate", HELLO, patience=99)
    assert (run.text, run.reason, run.prompt_tokens) == ("ok", "stop", reply.prompt_tokens)
    assert ollama.run_once("tiny:candidate", HELLO[0]["content"], patience=99) == run
    hung_up = ollama.run("tiny:candidate", HELLO, patience=0)
    assert (hung_up.reason, hung_up.prompt_tokens) == ("", None)
    assert "ok".startswith(hung_up.text)
    ollama.unload("tiny:candidate")


def test_the_contract_of_the_stored_file(ollama: Ollama, gguf: Path) -> None:
    from gguf import GGUFReader

    register(ollama, gguf)
    stored = GGUFReader(ollama.stored_blob("tiny:candidate"))
    ours = {tensor.name: bytes(tensor.data) for tensor in GGUFReader(gguf).tensors}
    assert {tensor.name: bytes(tensor.data) for tensor in stored.tensors} == ours


def test_the_contract_of_options_that_a_version_does_not_take(ollama: Ollama, gguf: Path) -> None:
    """Since 0.34.1 typical_p is refused in a request, and as a PARAMETER of a new model."""
    register(ollama, gguf)
    asked = {"options": {"typical_p": 1.0}, "stream": False}
    body = {"model": "tiny:candidate", "messages": HELLO, **asked}
    status = httpx.post(f"{ollama.address.url}/api/chat", json=body, trust_env=False).status_code
    assert ollama.chat("tiny:candidate", HELLO, limit=8).text == "ok"
    assert ollama.refused == ({"typical_p"} if status == 400 else set())
    if status == 400:
        with pytest.raises(BadInput, match="does not take the PARAMETERs") as caught:
            capable(ollama, {"temperature": 0.3, "typical_p": 0.9})
        assert "Remove PARAMETER typical_p" in caught.value.next_step
    else:
        capable(ollama, {"temperature": 0.3, "typical_p": 0.9})


def test_the_contract_of_parameters_that_a_run_obeys(ollama: Ollama, gguf: Path) -> None:
    digest = digest_of_file(gguf)
    ollama.upload(gguf, digest, quiet)
    ollama.create("tiny", digest, parameters={"num_predict": 1, "num_ctx": 512})
    cut = ollama.run("tiny", HELLO, patience=9)
    assert (cut.text, cut.reason) == ("o", "length")
    assert ollama.chat("tiny", HELLO, limit=8).text == "ok"  # what is asked for wins
    ollama.create("tiny", digest, parameters={"stop": ["k"], "num_ctx": 512})
    assert ollama.run("tiny", HELLO, patience=9).text == "o"


def test_an_ollama_that_can_do_it_is_left_as_it_was(ollama: Ollama) -> None:
    capable(ollama)
    capable(ollama, {"temperature": 0.3, "num_ctx": 100_000, "stop": ["END"], "repeat_penalty": 9})
    assert ollama.tags() == {}


def test_an_answer_that_hangs_in_the_middle_is_an_error(tmp_path: Path, gguf: Path) -> None:
    with (
        FakeOllama(tmp_path / "m", "hangs") as fake,
        Ollama(fake.address, httpx.Timeout(0.3)) as ollama,
    ):
        register(ollama, gguf)
        with pytest.raises(ToolFailed, match="does not answer any more"):
            ollama.chat("tiny:candidate", HELLO, limit=8)


def test_an_option_without_which_an_answer_is_not_greedy_is_never_left_out(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOllama(tmp_path / "m") as fake, Ollama(fake.address) as ollama:
        register(ollama, gguf)
        refuse = ToolFailed("Ollama refused (/api/chat): top_k is no longer supported")
        monkeypatch.setattr(ollama, "_listen", Mock(side_effect=refuse))
        with pytest.raises(ToolFailed, match="top_k is no longer supported"):
            ollama.chat("tiny:candidate", HELLO, limit=8)
    assert ollama.refused == set()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("old", "does not run a model's own template"),
        ("guesses the template", "a template of its own"),
        ("other render", "renders a model's own template in another way"),
        ("forgets system", "renders a model's own template in another way"),
        ("says no render", "lacks rendered_template"),
        ("counts nothing", "lacks prompt_eval_count"),
        ("shows markers", "says '<|end|>'"),
        ("endless", "a model that says 'ok'"),
        ("refuses to register", "invalid file magic"),
        ("breaks off", "broke off"),
        ("disk full", "no space left"),
        ("hides its files", "not on this machine's disk"),
    ],
)
def test_an_ollama_that_cannot_is_refused_with_the_reason(
    tmp_path: Path, fault: str, why: str
) -> None:
    answer = "okokokokokok" if fault == "endless" else "ok"
    with (
        FakeOllama(tmp_path / "m", fault, answer=answer) as fake,
        Ollama(fake.address) as ollama,
        pytest.raises(Missing, match=why) as caught,
    ):
        capable(ollama)
    assert caught.value.next_step
    assert not any(name.startswith(TRIAL) for name in fake.models)


@pytest.mark.smoke
@pytest.mark.parametrize("version", real_ollama.versions())
def test_a_real_ollama_without_its_helpers_is_refused(tmp_path: Path, version: str) -> None:
    alone = shutil.copy(Path(real_ollama.binary(version)).resolve(), tmp_path / "ollama")
    with (
        real_ollama.serving(tmp_path, str(alone)) as address,
        Ollama(address) as ollama,
        pytest.raises(Missing, match=r"llama-(quantize|server) binary not found") as caught,
    ):
        capable(ollama)
    assert "helper programs" in caught.value.next_step


def test_an_upload_that_is_there_is_not_sent_again(tmp_path: Path, gguf: Path) -> None:
    digest = digest_of_file(gguf)
    with FakeOllama(tmp_path / "m") as fake, Ollama(fake.address) as ollama:
        ollama.upload(gguf, digest, quiet)
        ollama.upload(gguf, digest, quiet)
    assert [method for method, _ in fake.asked] == ["HEAD", "POST", "HEAD"]


def test_a_hang_up_of_one_that_has_the_file_is_no_failure(tmp_path: Path, gguf: Path) -> None:
    with FakeOllama(tmp_path / "m", "hangs up once") as fake, Ollama(fake.address) as ollama:
        ollama.upload(gguf, digest_of_file(gguf), quiet)
    assert fake.uploaded == gguf.stat().st_size


def test_ollama_killed_in_the_middle_of_an_upload_is_one_sentence(
    tmp_path: Path, gguf: Path
) -> None:
    with (
        FakeOllama(tmp_path / "m", "dies in upload") as fake,
        Ollama(fake.address) as ollama,
        pytest.raises(PipelineError, match="Ollama went away \\(uploading") as caught,
    ):
        ollama.upload(gguf, digest_of_file(gguf), quiet)
    assert "what is finished is kept" in caught.value.next_step


def test_a_full_disk_is_said_and_not_tried_again(tmp_path: Path, gguf: Path) -> None:
    with (
        FakeOllama(tmp_path / "m", "disk full") as fake,
        Ollama(fake.address) as ollama,
        pytest.raises(ToolFailed, match="no space left") as caught,
    ):
        ollama.upload(gguf, digest_of_file(gguf), quiet)
    assert "Make room" in caught.value.next_step
    assert [method for method, _ in fake.asked] == ["HEAD", "POST"]


@pytest.mark.parametrize(
    ("fault", "kind", "why"),
    [
        ("breaks off", ToolFailed, "broke off while registering"),
        ("refuses to register", ToolFailed, "invalid file magic"),
        ("guesses the template", ProofFailed, "autodetected template chatml"),
    ],
)
def test_a_registration_counts_only_with_success_and_our_template(
    tmp_path: Path, gguf: Path, fault: str, kind: type[PipelineError], why: str
) -> None:
    with FakeOllama(tmp_path / "m", fault) as fake, Ollama(fake.address) as ollama:
        with pytest.raises(kind, match=why):
            register(ollama, gguf)
        assert ollama.tags() == {}


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("counts nothing", "lacks prompt_eval_count"),
        ("says no reason", "lacks done_reason"),
        ("never done", "did not finish"),
    ],
)
def test_an_answer_without_what_the_proof_needs_is_a_failure(
    tmp_path: Path, gguf: Path, fault: str, why: str
) -> None:
    with FakeOllama(tmp_path / "m", fault) as fake, Ollama(fake.address) as ollama:
        register(ollama, gguf)
        with pytest.raises(ProofFailed, match=why):
            ollama.chat("tiny:candidate", HELLO, limit=8)


def test_a_model_store_behind_a_closed_folder_is_said(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOllama(tmp_path / "m") as fake, Ollama(fake.address) as ollama:
        register(ollama, gguf)

        def closed(*_: object, **__: object) -> None:  # the tests may run as root, who may all
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", closed)
        with pytest.raises(Missing, match="files may not be read") as caught:
            ollama.stored_blob("tiny:candidate")
    assert "usermod -aG ollama" in caught.value.next_step


def test_no_server_is_one_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nobody = Address("127.0.0.1", port)
    with Ollama(nobody) as ollama, pytest.raises(Missing, match="no Ollama answers"):
        ollama.version()


def test_proxies_of_the_environment_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with FakeOllama(tmp_path / "m") as fake, Ollama(fake.address) as ollama:
        assert ollama.version()


def foreign() -> list[type[Exception]]:
    """Every exception class that httpx has."""
    found = [each for _, each in inspect.getmembers(httpx, inspect.isclass)]
    return [each for each in found if issubclass(each, Exception)]


@pytest.mark.parametrize("kind", [*foreign(), json.JSONDecodeError])
def test_no_foreign_error_passes_the_door(kind: type[Exception]) -> None:
    request = httpx.Request("GET", "http://127.0.0.1")
    if kind is json.JSONDecodeError:
        error: Exception = json.JSONDecodeError("bad", "x", 0)
    elif kind is httpx.HTTPStatusError:
        error = httpx.HTTPStatusError("bad", request=request, response=httpx.Response(500))
    elif kind in (httpx.StreamConsumed, httpx.StreamClosed, httpx.RequestNotRead) or (
        kind is httpx.ResponseNotRead
    ):
        error = kind()
    else:
        error = kind("bad")
    with pytest.raises(PipelineError) as caught, door("asking"):
        raise error
    assert caught.value.next_step


def test_a_bug_of_ours_keeps_its_trace() -> None:
    with pytest.raises(KeyError), door("asking"):
        raise KeyError("ours")


def test_every_fault_of_the_fake_is_tried_somewhere() -> None:
    folder = Path(__file__).parent
    tests = "".join((folder / f"test_{name}.py").read_text() for name in ("ollama", "release"))
    assert [fault for fault in FAULTS if f'"{fault}"' not in tests] == []
