"""A machine for the chain: loopback only, a small disk, an Ollama, proxies that lead nowhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hostile
from real_ollama import environment, serving
from tiny import tiny_base_directory

from pipeline.tools.children import tied
from pipeline.tools.host import Address

SPECIALIST = Path(sys.executable).with_name("specialist")
ROWS = 80
DEAD = "http://127.0.0.1:9"  # nothing listens there
CALLED = "tiny"
MODELFILE = "FROM ../tiny-random\nSYSTEM Be brief.\nPARAMETER temperature 0\n"
MAKE = (
    *("make", CALLED, "--set", "tune.epochs=4"),
    *("--set", "tune.keep=0", "--set", "evaluate.enabled=false"),  # the chain is what is shown here
)


@dataclass(frozen=True)
class Machine:
    """What a user has, and the command line."""

    folder: Path
    address: Address
    store: Path
    inside: tuple[str, ...]
    """Words in front of a command, which run it in the namespaces; () where there are none."""
    more: tuple[tuple[str, str], ...] = ()
    """Further environment variables."""

    def having(self, **more: str) -> Machine:
        """The same machine with other environment variables."""
        return replace(self, more=(*self.more, *more.items()))

    @property
    def environment(self) -> dict[str, str]:
        """Of the commands; the cache of built tools stays the machine's own."""
        proxies = {f"{kind}_proxy": DEAD for kind in ("http", "https", "all")}
        return {
            **environment(self.folder, self.address),
            **proxies,
            **{name.upper(): DEAD for name in proxies},
            "HOME": os.environ.get("HOME", str(self.folder)),
            "SPECIALIST_HOME": str(self.store),
            "XDG_STATE_HOME": str(self.folder / "state"),
            **dict(self.more),
        }

    @property
    def hostile(self) -> Path:
        """The working directory of every command: full of modules that would be imported."""
        return self.folder / "hostile"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`specialist …` in a group of its own, as a shell starts it."""
        return subprocess.Popen(
            tied([*self.inside, str(SPECIALIST), *self._whole(arguments)]),
            cwd=self.hostile,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_in_the_foreground,
        )

    def run(self, *arguments: str) -> str:
        """What `specialist …` prints; it ends well."""
        return ended_well(self.start(*arguments))

    def _whole(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        if arguments[0] not in ("make", "plan"):
            return arguments
        data, folder = self.folder / "rows.jsonl", self.folder / "modelfiles"
        return (*arguments, "--data", str(data), "--modelfiles", str(folder))

    def modelfile(self, text: str) -> None:
        """Write the specialist's Modelfile."""
        (self.folder / f"modelfiles/{CALLED}.Modelfile").write_text(text)

    def stage(self, name: str) -> Path:
        """The one finished directory of a stage."""
        (record,) = self.store.glob(f"stages/{name}-*/record.json")
        return record.parent

    def digest(self, stage: str) -> str:
        """Content digest of what a stage made."""
        record: dict[str, Any] = json.loads((self.stage(stage) / "record.json").read_text())
        return str(record["artifact"]["digest"])

    def tag(self, tag: str) -> Path:
        """Where Ollama keeps the manifest of NAME:tag."""
        return self.folder / "models/manifests/registry.ollama.ai/library" / CALLED / tag

    def candidates(self) -> list[Path]:
        """Manifests of tags that a release removes again."""
        return [*self.tag("latest").parent.glob("candidate-*")]

    def processes(self) -> list[str]:
        """Command lines of all processes that know this store."""
        mark = f"SPECIALIST_HOME={self.store}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    words = (process / "cmdline").read_bytes().split(b"\0")
                    found.append(b" ".join(words).decode(errors="replace"))
            except OSError:  # ended meanwhile, or another user's
                continue
        return [line for line in found if line]  # a zombie has none

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file under the store."""
        files = [path for path in self.store.rglob("*") if path.is_file()]
        return {str(f): (f.stat().st_size, f.stat().st_mtime_ns) for f in files}


def _in_the_foreground() -> None:
    """Ctrl-C reaches it, also where the tests run behind a shell's `&`, which has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended_well(run: subprocess.Popen[str]) -> str:
    """What it printed."""
    out, err = run.communicate(timeout=600)
    assert run.returncode == 0, f"{out[-3000:]}\n{err[-3000:]}"
    return out


def wait_until(check: Callable[[], object], run: subprocess.Popen[str] | None = None) -> None:
    """Return as soon as it is so; fail if the run ends before, or after two minutes."""
    deadline = time.monotonic() + 120
    while True:
        began = time.monotonic()
        if check():
            return
        assert began < deadline, "waited in vain"
        assert run is None or run.poll() is None, "the run ended before"
        time.sleep(0.002 + 5 * (time.monotonic() - began))  # most of the time is the run's


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A machine with a tiny base, 80 rows and a Modelfile."""
    tiny_base_directory(folder / "tiny-random")
    rows = [
        [{"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": "No."}]
        for n in range(ROWS)
    ]
    text = "".join(json.dumps({"messages": row}) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text)
    (folder / "modelfiles").mkdir()
    (folder / "small-disk").mkdir()
    spaces = namespaces(folder / "small-disk", hostile.modules(folder / "hostile"))
    with spaces as inside, serving(folder, inside=inside) as address:
        made = Machine(folder, address, folder / "store", inside)
        made.modelfile(MODELFILE)
        yield made


@contextmanager
def namespaces(small_disk: Path, working: Path) -> Iterator[tuple[str, ...]]:
    """The words that run a command in `working`, where the loopback is the only network.

    `small_disk` is a file system of its own in there. () where the system lets its users have no
    namespaces (some containers, Ubuntu's default for unconfined programs).
    """
    script = (
        'ip link set lo up && mount -t tmpfs -o size=2m small "$0" && echo ready && exec sleep 3600'
    )
    holder = subprocess.Popen(
        tied(
            ["unshare", "--map-root-user", "--net", "--mount", "sh", "-c", script, str(small_disk)]
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() == "ready\n":
            spaces = ("--user", "--preserve-credentials", "--net", "--mount")
            yield ("nsenter", f"--target={holder.pid}", *spaces, f"--wd={working}")
        else:
            yield ()
    finally:
        holder.kill()
        holder.communicate()
