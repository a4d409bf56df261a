"""The Ollama server on this machine: used if it answers, else started; stopped only if it is ours.

One that we start goes on after us: an own session, the working directory `/`, a log and a note of
its process in places.state_home(). A system service that is installed but stopped is never shadowed
by a second server, because that one would have another model store.
Standard library only: the set-up reads this before anything is installed.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.common import places, private
from pipeline.common.errors import Missing, PipelineError, ToolFailed
from pipeline.tools.children import OLLAMA, allowed
from pipeline.tools.host import Address, address

Say = Callable[[str], object]

_UNITS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_USUAL = ("/usr/local/bin", "/usr/bin", "/snap/bin")  # where installers put it, PATH or not
_OTHER_PORT = "Stop or restart it, or give Ollama another port: OLLAMA_HOST=127.0.0.1:11500"
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Server:
    """A server that we started: enough to know the process again, and only this one."""

    pid: int
    started: str  # boot id and start time in clock ticks: pids are used again
    host: str
    port: int


def ensure(say: Say, environ: Mapping[str, str] = os.environ) -> Address:
    """The address of a running Ollama: the one that answers, else one that is started.

    Args:
        say: told in one line what is used or started.

    Raises:
        BadInput: OLLAMA_HOST is not on this machine.
        Missing: nothing to start, or a stopped service that must not be shadowed.
        ToolFailed: the server does not come up, or something else listens there.
    """
    where = address(environ)
    if version := answers(where):
        say(f"Ollama {version} at {where.url}")
        return where
    binary = startable(where)
    with _lock():  # two of us at once: the second finds the first one's server
        if not answers(where):
            start(binary, where, environ)
            say(f"Ollama started at {where.url} (log: {log()}; to stop it: make ollama-stop)")
    return where


def startable(where: Address) -> Path:
    """The binary to start where no server answers.

    Raises:
        Missing: a stopped system service is there instead, or no binary at all.
    """
    refuse_to_shadow(where)
    binary = installed() or places.ollama_built()
    if not binary.exists():
        raise Missing("No Ollama on this machine", "Run: make setup")
    return binary


def refuse_to_shadow(where: Address) -> None:
    """To be asked where no server answers.

    Raises:
        Missing: a system service is installed; a second server would have another model store.
    """
    if unit := service():
        systemd = Path("/run/systemd/system").exists()
        command = f"sudo systemctl start {unit}" if systemd else "ollama serve  (in a terminal)"
        raise Missing(
            f"Ollama is installed as the service {unit}, but does not answer at {where.url}",
            f"Start it: {command}. If it listens elsewhere, say so: OLLAMA_HOST=127.0.0.1:PORT.",
        )


def service(folders: tuple[str, ...] = _UNITS) -> str:
    """The name of Ollama's systemd unit, running or not; empty if none is installed."""
    for folder in folders:
        for pattern in ("ollama.service", "snap.ollama.*.service"):
            for unit in sorted(Path(folder).glob(pattern)):
                return unit.name.removesuffix(".service")
    return ""


def installed(environ: Mapping[str, str] = os.environ) -> Path | None:
    """An Ollama binary that somebody installed: on PATH or at a usual place; never our build."""
    cache = places.cache_home().resolve()
    for folder in (*environ.get("PATH", "").split(os.pathsep), *_USUAL):
        found = shutil.which("ollama", path=folder) if folder else None
        if found and cache not in Path(found).resolve().parents:
            return Path(found).absolute()
    return None


def answers(where: Address, timeout: float = 15.0) -> str:
    """The version of the Ollama at this address; empty if nothing listens there.

    Raises:
        ToolFailed: something listens that is not Ollama, or hangs.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # HTTP_PROXY is not asked
    try:
        with opener.open(f"{where.url}/api/version", timeout=timeout) as reply:
            return str(json.load(reply)["version"])
    except urllib.error.HTTPError as error:
        raise ToolFailed(f"What listens at {where.url} is not Ollama", _OTHER_PORT) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return ""
        raise ToolFailed(f"{where.url} does not answer ({error.reason})", _OTHER_PORT) from error
    except TimeoutError as error:
        raise ToolFailed(f"What listens at {where.url} does not answer", _OTHER_PORT) from error
    except (http.client.HTTPException, OSError, ValueError, KeyError, TypeError) as error:
        raise ToolFailed(f"What listens at {where.url} is not Ollama", _OTHER_PORT) from error


def start(binary: Path, where: Address, environ: Mapping[str, str] = os.environ) -> Server:
    """Start a server that outlives us; returns when it answers.

    Raises:
        ToolFailed: it ended or did not answer within a minute; its last words and its log.
    """
    private.folder(places.state_home())
    if log().exists():
        log().replace(log().with_suffix(".log.1"))  # the last one tells why it ended
    with open(log(), "wb", opener=private.opener) as out:
        process = subprocess.Popen(
            [str(binary), "serve"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd="/",  # it must not hold the clone
            start_new_session=True,  # nor end with our terminal or our Ctrl-C
            env={**allowed(OLLAMA, environ), "OLLAMA_HOST": where.netloc, "OLLAMA_NO_CLOUD": "1"},
            umask=private.users_umask(),  # its models are as any other Ollama's
        )
    server = Server(process.pid, _started(process.pid), where.host, where.port)
    note = places.state_home() / f"server-{where.port}.json"
    beside = note.with_name(f".{note.name}.{os.getpid()}")  # whole or not at all
    with open(beside, "w", opener=private.opener) as out:
        out.write(json.dumps({"format": 1, **asdict(server)}) + "\n")
    beside.replace(note)  # before it answers: Ctrl-C may come
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        if _ready(where):
            process.returncode = 0  # it is meant to go on: no warning about a child left behind
            return server
        time.sleep(0.05)
    if _runs(server):
        _stop(server)
    note.unlink(missing_ok=True)
    raise ToolFailed(f"Ollama does not start: {_last_words()}", f"Its whole log: {log()}")


def stop() -> str:
    """Stop every server that we started, and no other; a sentence about what was done."""
    stopped = [_stop(server) for server in ours()]
    for note in _notes():
        if _read(note):
            note.unlink(missing_ok=True)
        else:
            stopped.append(f"{note} cannot be read: is an Ollama running that it tells of?")
    return " ".join(stopped) or "No Ollama of ours is running."


def _stop(server: Server) -> str:
    os.kill(server.pid, signal.SIGTERM)
    end = time.monotonic() + _STOP_SECONDS
    while _runs(server) and time.monotonic() < end:
        time.sleep(0.05)
    if _runs(server):  # its runners too: they are in its group
        os.killpg(server.pid, signal.SIGKILL)
    return f"Ollama at {Address(server.host, server.port).url} is stopped."


def ours() -> list[Server]:
    """The servers that we started and that still run; one for each port at most."""
    return [server for note in _notes() if (server := _read(note)) and _runs(server)]


def _read(note: Path) -> Server | None:
    """What a note says; None if it cannot be read."""
    try:
        value = json.loads(note.read_text())
        number, server = value.pop("format", 1), Server(**value)
        if number != 1 or "\0" in str(server.pid):
            return None
        return Server(int(server.pid), str(server.started), str(server.host), int(server.port))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def run_line(name: str, where: Address, environ: Mapping[str, str] = os.environ) -> str:
    """The line that talks to a model when pasted into a shell, from any folder."""
    linked = Path(sys.prefix) / "bin" / "ollama"
    if shutil.which("ollama", path=environ.get("PATH", "")):
        binary = "ollama"
    elif found := next(
        (f for f in (linked, installed(environ), places.ollama_built()) if f and f.exists()), None
    ):
        binary = shlex.quote(str(found))
    else:  # the server is in a container or on the other side of WSL
        body = json.dumps({"model": name, "prompt": "Hello", "stream": False})
        return f"curl {where.url}/api/generate -d {shlex.quote(body)}"
    prefix = "" if where == Address() else f"OLLAMA_HOST={shlex.quote(where.netloc)} "
    return f"{prefix}{binary} run {shlex.quote(name)}"


def log() -> Path:
    """The log of the server that we start; the one before it has `.1` at its end."""
    return places.state_home() / "ollama.log"


def _notes() -> list[Path]:
    return sorted(places.state_home().glob("server-*.json"))


def _ready(where: Address) -> bool:
    try:
        return bool(answers(where))
    except PipelineError:
        return False


def _last_words() -> str:
    lines = log().read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"


def _runs(server: Server) -> bool:
    return bool(server.started) and _started(server.pid) == server.started


def _started(pid: int) -> str:
    """Boot id and start time of a process; empty if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name before may hold blanks and brackets
    return "" if fields[0] == "Z" else f"{boot}/{fields[19]}"


@contextmanager
def _lock() -> Iterator[Any]:
    private.folder(places.state_home())
    with open(places.state_home() / "server.lock", "w", opener=private.opener) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
