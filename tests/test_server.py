"""The server's life, with a small program in Ollama's place."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.common import places
from pipeline.common.errors import Missing, ToolFailed
from pipeline.tools import server
from pipeline.tools.host import Address

OLLAMA = f"""#!{sys.executable}
import http.server, json, os, pathlib
host, _, port = os.environ["OLLAMA_HOST"].rpartition(":")
class Reply(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = {{"version": "0.0.7", "cwd": os.getcwd(), "leader": os.getsid(0) == os.getpid()}}
        told["environ"] = dict(os.environ)
        body = json.dumps({{**told, "no_cloud": os.environ.get("OLLAMA_NO_CLOUD")}}).encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
http.server.ThreadingHTTPServer((host, int(port)), Reply).serve_forever()
"""


@pytest.fixture
def where() -> Address:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", free.getsockname()[1])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine of its own: places in a temporary folder, no service, and Ollama on PATH."""
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(server, "service", lambda: "")
    monkeypatch.setattr(server, "_USUAL", ())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    program(tmp_path / "bin" / "ollama", OLLAMA)
    yield tmp_path
    server.stop()


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def at(where: Address) -> dict[str, str]:
    return {**os.environ, "OLLAMA_HOST": where.netloc}


def test_where_nothing_answers_an_installed_ollama_is_started_and_told(
    machine: Path, where: Address
) -> None:
    said: list[str] = []

    assert server.ensure(said.append, at(where)) == where

    assert server.answers(where) == "0.0.7"
    assert "make ollama-stop" in said[0] and str(server.log()) in said[0]


def test_a_server_that_answers_is_used_and_never_stopped(machine: Path, where: Address) -> None:
    other = subprocess.Popen([machine / "bin" / "ollama"], env=at(where))
    try:
        while not server._ready(where):
            time.sleep(0.02)

        server.ensure(lambda line: None, at(where))

        assert server.ours() == []
        assert "No Ollama of ours" in server.stop()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_two_at_once_start_one_server(machine: Path, where: Address) -> None:
    said: list[str] = []
    both = [threading.Thread(target=server.ensure, args=(said.append, at(where))) for _ in "ab"]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()

    assert sum("started" in line for line in said) == 1


def test_it_goes_on_after_the_one_who_started_it_and_stop_ends_it(
    machine: Path, where: Address
) -> None:
    code = "from pipeline.tools import server; server.service = str; server.ensure(print)"
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], env=at(where), check=True, cwd=root)

    assert server.answers(where)
    assert "stopped" in server.stop()
    assert not server.answers(where)


def test_it_holds_neither_our_folder_nor_our_terminal_and_no_cloud(
    machine: Path, where: Address
) -> None:
    server.ensure(lambda line: None, at(where))

    told = told_by(where)
    assert (told["cwd"], told["leader"], told["no_cloud"]) == ("/", True, "1")


def told_by(where: Address) -> dict[str, Any]:
    with urllib.request.urlopen(f"{where.url}/api/version") as reply:
        told: dict[str, Any] = json.load(reply)
    return told


def test_it_is_told_no_secret_of_ours(machine: Path, where: Address) -> None:
    secret = {"HF_TOKEN": "mine", "AWS_SECRET_ACCESS_KEY": "mine", "SSH_AUTH_SOCK": "mine"}
    kept = {"OLLAMA_KEEP_ALIVE": "1m", "HTTPS_PROXY": "http://proxy:3128", "LC_ALL": "C"}
    server.ensure(lambda line: None, {**at(where), **secret, **kept})

    environ = told_by(where)["environ"]
    assert "mine" not in environ.values()
    assert kept.items() <= environ.items()


def test_its_log_and_note_are_the_owners_alone(machine: Path, where: Address) -> None:
    old = os.umask(0o022)
    try:
        server.ensure(lambda line: None, at(where))
    finally:
        os.umask(old)

    files = [places.state_home(), *places.state_home().iterdir()]
    assert len(files) == 4
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []


def test_a_process_that_only_has_the_same_number_is_not_stopped(
    machine: Path, where: Address
) -> None:
    places.state_home().mkdir(parents=True)
    stranger = subprocess.Popen(["/bin/sleep", "60"])
    try:
        note = f'{{"pid": {stranger.pid}, "started": "x/1", "host": "127.0.0.1", "port": 1}}'
        (places.state_home() / "server-11434.json").write_text(note)

        assert "No Ollama of ours" in server.stop()
        assert stranger.poll() is None
    finally:
        stranger.send_signal(signal.SIGKILL)
        stranger.wait()


def test_a_stopped_service_is_never_shadowed(
    machine: Path, where: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "service", lambda: "ollama")

    with pytest.raises(Missing, match="service ollama") as refused:
        server.ensure(lambda line: None, at(where))

    assert "Start it" in refused.value.next_step
    assert not server.answers(where)


def test_the_units_of_the_installer_and_of_snap_are_found(tmp_path: Path) -> None:
    assert server.service((str(tmp_path),)) == ""
    (tmp_path / "snap.ollama.listener.service").touch()
    assert server.service((str(tmp_path),)) == "snap.ollama.listener"
    (tmp_path / "ollama.service").touch()
    assert server.service((str(tmp_path),)) == "ollama"


def test_without_any_ollama_the_way_out_is_the_set_up(machine: Path, where: Address) -> None:
    (machine / "bin" / "ollama").unlink()

    with pytest.raises(Missing) as refused:
        server.ensure(lambda line: None, at(where))

    assert "make setup" in refused.value.next_step


def test_a_build_of_ours_on_the_path_is_not_an_installed_ollama(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = places.ollama_built()
    program(built, OLLAMA)
    (machine / "venv").mkdir()
    (machine / "venv" / "ollama").symlink_to(built)
    monkeypatch.setenv("PATH", str(machine / "venv"))

    assert server.installed() is None


def test_a_server_that_dies_at_once_is_an_error_with_its_last_words(
    machine: Path, where: Address
) -> None:
    program(machine / "bin" / "ollama", "#!/bin/sh\necho Error: no space for models >&2; exit 1\n")

    with pytest.raises(ToolFailed, match="no space for models") as failed:
        server.ensure(lambda line: None, at(where))

    assert str(server.log()) in failed.value.next_step


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.0 404 Not Found\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nhi", b"hi\n", b""]
)
def test_something_else_on_the_port_is_said_to_be_no_ollama(reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(reply)

        thread = threading.Thread(target=once)
        thread.start()
        with pytest.raises(ToolFailed, match="is not Ollama"):
            server.answers(Address("127.0.0.1", listener.getsockname()[1]))
        thread.join()


def test_a_port_that_hangs_is_an_error_and_not_waited_for() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(ToolFailed, match="does not answer"),
    ):
        server.answers(Address("127.0.0.1", listener.getsockname()[1]), timeout=0.2)


def test_a_proxy_is_not_asked(
    machine: Path, where: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.ensure(lambda line: None, at(where))

    assert server.answers(where) == "0.0.7"


def test_the_line_to_paste_works_from_any_folder(
    machine: Path, where: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.run_line("brand-voice", Address()) == "ollama run brand-voice"
    assert server.run_line("a b", where) == f"OLLAMA_HOST={where.netloc} ollama run 'a b'"

    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "prefix", str(machine / "my venv"))
    assert server.run_line("x", Address()).startswith(f"curl {Address().url}/api/generate -d ")
    program(machine / "my venv" / "bin" / "ollama", "#!/bin/sh\necho $OLLAMA_HOST $@\n")
    line = server.run_line("x", where)
    pasted = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, cwd="/")
    assert pasted.stdout == f"{where.netloc} run x\n"


def test_stop_ends_every_server_of_ours(machine: Path, where: Address) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        other = Address("127.0.0.1", free.getsockname()[1])
    for address in (where, other):
        server.ensure(lambda line: None, at(address))
    assert len(server.ours()) == 2
    assert server.stop().count("is stopped") == 2
    assert not server.answers(where) and not server.answers(other)


@pytest.mark.parametrize("text", ['{"pid": 1', "[" * 99999, '{"pid": "\\u0000"}', "[]", "{}"])
def test_a_note_that_cannot_be_read_is_named_and_kept(machine: Path, text: str) -> None:
    places.state_home().mkdir(parents=True)
    note = places.state_home() / "server-11434.json"
    note.write_text(text)
    assert server.ours() == []
    assert f"{note} cannot be read" in server.stop()
    assert note.exists()
