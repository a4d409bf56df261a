"""Who may change a name now: one run of this store, one promotion of this machine."""

from __future__ import annotations

import errno
import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from filelock import FileLock, Timeout

from pipeline.common import places, private
from pipeline.common.errors import ToolFailed
from pipeline.release import history
from pipeline.run import lease
from pipeline.tools.host import Address

_WAIT_SECONDS = 60.0  # for another promotion, which takes a second


@contextmanager
def alone(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """One command that changes a name at a time, of those that share this store."""
    path = history.file(name, "lock")
    private.folder(path.parent)
    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"Another run is registering {name}: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def steady() -> AbstractContextManager[None]:
    """While records and journal change, `gc` does not read what they name."""
    return lease.turn(places.home() / "leases")


@contextmanager
def turn(server: Address, name: str) -> Iterator[None]:
    """One change of a name's tags at a time, whichever store of this machine it comes from.

    An abstract socket (man 7 unix) has no file: all users share it, and it goes with its process.
    """
    words = f"{server.port}/{name.lower()}"  # `localhost` may be any loopback address
    held_name = f"\0specialist/{hashlib.sha256(words.encode()).hexdigest()}"
    end = time.monotonic() + _WAIT_SECONDS
    with socket.socket(socket.AF_UNIX) as held:
        while True:
            try:
                held.bind(held_name)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if time.monotonic() > end:
                    raise ToolFailed(
                        f"another run has been registering {name} for a minute",
                        "Let it end, then run the same command again.",
                    ) from error
                time.sleep(0.05)
        yield
