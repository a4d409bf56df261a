"""The real Ollama, started for tests: a free port, a home and a model store of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.common import places
from pipeline.tools.children import tied
from pipeline.tools.host import Address

INSTALLED = "installed"
_running: dict[Address, subprocess.Popen[bytes]] = {}


def versions() -> tuple[str, ...]:
    """What the tests run on, the main one last: what is wanted, else installed, else both built."""
    if wanted := os.environ.get("SPECIALIST_TEST_OLLAMA"):
        return (wanted,)
    return (INSTALLED,) if shutil.which("ollama") else places.OLLAMAS


def binary(version: str = "") -> str:
    """The program of a version; of the main one if none is given."""
    version = version or versions()[-1]
    return str(shutil.which("ollama") if version == INSTALLED else places.ollama_built(version))


def environment(folder: Path, address: Address) -> dict[str, str]:
    """What keeps it away from the user's own."""
    return {
        **os.environ,
        "HOME": str(folder),
        "OLLAMA_MODELS": str(folder / "models"),
        "OLLAMA_HOST": address.netloc,
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_NOPRUNE": "1",
    }


@contextmanager
def serving(folder: Path, program: str = "", inside: Sequence[str] = ()) -> Iterator[Address]:
    """An Ollama that runs until the block ends.

    Args:
        program: another binary of it.
        inside: words in front of the command, which run it in namespaces of its own.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", free.getsockname()[1])
    with (folder / "ollama.log").open("wb") as log:
        server = subprocess.Popen(
            tied([*inside, program or binary(), "serve"]),
            cwd=folder,  # it looks for its helpers there, too
            env=environment(folder, address),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    _running[address] = server
    try:
        _wait(address, server, folder / "ollama.log")
        yield address
    finally:
        server.terminate()
        server.wait(30)


def kill(address: Address) -> None:
    """Kill the server as a crash would."""
    _running[address].kill()


def _wait(address: Address, server: subprocess.Popen[bytes], log: Path) -> None:
    """Its log tells, also where this process could not dial it; from then on calls are queued."""
    for _ in range(300):
        if f"Listening on {address.netloc}" in log.read_text(errors="replace"):
            return
        assert server.poll() is None, log.read_text()[-2000:]
        time.sleep(0.1)
    raise AssertionError(f"Ollama does not answer: {log.read_text()[-2000:]}")
