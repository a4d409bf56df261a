"""Runs the steps that are not done: checks first, says how long it takes, shows how far it is."""

from __future__ import annotations

import argparse
import fcntl
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.common import places
from pipeline.common.errors import BadInput, PipelineError
from pipeline.common.names import check_name
from pipeline.intake import conversations
from pipeline.setup import browser as browsers
from pipeline.setup import kernels, llama, needs, ollama, packages, sources
from pipeline.setup.progress import Progress, duration
from pipeline.setup.step import Step, Work
from pipeline.tools import server


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of the set-up."""
    parser = argparse.ArgumentParser(prog="python3 -m pipeline.setup", description=__doc__)
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="cpu: an unusable GPU does not matter",
    )
    parser.add_argument("--name", help="of the specialist that will be made: checked first")
    parser.add_argument(
        "--data", type=Path, help="that it will be made of: read before a long set-up"
    )
    parser.add_argument(
        "--tests",
        action="store_true",
        help="an ollama program of each version that is tested, and a browser",
    )
    parser.add_argument("--ollama", metavar="VERSION", help="build this version for the tests, too")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.name is not None:
            check_name(chosen.name)
        versions = tested(chosen.tests, chosen.ollama)
        set_up(chosen.device, versions, chosen.data, browser=chosen.tests)
    except PipelineError as error:
        sys.exit(error.told())
    except OSError as error:  # a full disk, a folder that may not be written
        sys.exit(f"Error: {error}\n  When that is mended, run it again to go on from here.")
    except KeyboardInterrupt:
        print("\nStopped. Run it again to go on from here.", file=sys.stderr)
        sys.exit(130)


def tested(tests: bool, version: str | None) -> tuple[str, ...]:
    """Versions of Ollama that tests will start.

    Raises:
        BadInput: that is no version.
    """
    if version is not None and not re.fullmatch(r"\d+\.\d+\.\d+(-rc\d+)?", version):
        raise BadInput(f"{version!r} is no version of Ollama", "As in: --ollama 0.34.4")
    if version:
        return (version,)
    return places.OLLAMAS if tests and not server.installed() else ()


def set_up(
    device: str,
    tests: tuple[str, ...] = (),
    data: Path | None = None,
    *,
    browser: bool = False,
) -> None:
    """Make what is missing.

    Args:
        tests: versions of Ollama that tests will start; a server that answers is not enough then.
        data: what will be trained on; read only where something is missing, for the training reads
            it too.
        browser: have one that tests can start, where that is possible.

    Raises:
        BadInput: the data cannot be learned, before anything is made.
        Missing: something that only the user can add, before anything is made.
        ToolFailed: a program failed; the next run goes on from there.
    """
    more = browsers.browser() if browser else []
    if not _missing(device, tests) and not more:
        return
    if data is not None:
        for _ in conversations.read(data):
            pass
    with _alone() as lock:
        # another set-up may have made it meanwhile
        steps = [*(step for step in more if not step.done()), *_missing(device, tests)]
        if steps:
            needs.check(steps)
            _make(steps, lock)


def plan(device: str, tests: tuple[str, ...] = ()) -> list[Step]:
    """All steps on this machine, in order."""
    versions = tuple(dict.fromkeys([*tests, *([places.OLLAMA] if ollama.own() else [])]))
    quantizer = (llama.QUANTIZER,) if tests else ()
    helpers = (llama.SERVER, *quantizer) if versions else ()
    return [
        *([ollama.ollama(versions, helpers)] if versions else []),
        packages.packages(device),
        sources.source(),
        sources.base(),
        packages.bindings(),
        llama.library(helpers),
        kernels.kernels(),
    ]


def _missing(device: str, tests: tuple[str, ...]) -> list[Step]:
    return [step for step in plan(device, tests) if not step.done()]


def _make(steps: list[Step], lock: int) -> None:
    longest = sum(step.seconds for step in steps)
    names = ", ".join(step.name for step in steps)
    print(f"Set-up, once per machine, about {duration(longest)}: {names}", flush=True)
    began = time.monotonic()
    failures: list[Exception] = []
    with Progress() as progress:

        def lane(mine: list[Step]) -> None:
            for step in mine:
                progress.begin(step.name, step.seconds)
                try:
                    step.run(Work(step, progress, lock))
                except Exception as error:  # raised again below, in the main thread
                    failures.append(error)
                    return
                progress.end(step.name)

        lanes = [[s] for s in steps if s.beside] + [[s for s in steps if not s.beside]]
        threads = [threading.Thread(target=lane, args=(mine,), daemon=True) for mine in lanes]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not failures:
            time.sleep(0.1)
    if failures:
        raise failures[0]
    print(f"Set-up done in {duration(time.monotonic() - began)}", flush=True)


@contextmanager
def _alone() -> Iterator[int]:
    """The only set-up of this user at work; a second one waits."""
    places.cache_home().mkdir(parents=True, exist_ok=True)
    with (places.cache_home() / "setup.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up is at work; waiting for it …", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
