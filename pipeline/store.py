"""Finished stage directories by key, and how a stage is run: in a process of its own.

    <home>/stages/<name>-<key>/         whole: its record.json was written last, then one rename
    <home>/stages/<name>-<key>.draft/   being made, or left by a run that was killed
    <home>/stages/<name>-<key>.damaged/ a finished one whose files or record were damaged
    <home>/stages/<name>-<key>.lock     held by the process that writes
    <home>/stages/<name>-<key>.log      what the process printed, until it has ended well

A fresh process gives back all memory, keeps foreign libraries' threads, patches and prints out of
this one, and dies with it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel

from pipeline import errors, places, private, sealed
from pipeline.artifacts import Artifact
from pipeline.device import visible
from pipeline.errors import OtherFormat, PipelineError, ToolFailed
from pipeline.lease import Lease, leased, turn
from pipeline.sealed import StageRecord
from pipeline.stage import Progress, Stage
from pipeline.tools.children import PYTHON, environment
from pipeline.tools.cores import cores
from pipeline.values import canonical

A = TypeVar("A", bound=Artifact)

_OURS = re.compile(r"((?:fetch|prepare|tune|pack)-[0-9a-f]{16})(\.draft|\.damaged)?")


@dataclass(frozen=True)
class Watcher:
    """Who is told how a stage goes. The defaults drop everything."""

    ready: Callable[[str], None] = field(default=lambda stage: None)
    """This stage was made before."""
    start: Callable[[str], None] = field(default=lambda stage: None)
    report: Callable[[str, Progress], None] = field(default=lambda stage, progress: None)
    say: Callable[[str, str], None] = field(default=lambda stage, line: None)
    done: Callable[[str, float], None] = field(default=lambda stage, seconds: None)
    """The stage and how many seconds it took."""


class Store:
    """Finished stage directories under `root`; what is missing is made on `device`."""

    def __init__(
        self,
        root: Path | None = None,
        *,
        device: str = "cpu",
        threads: int | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.root = (root or places.home()) / "stages"
        self._leases = self.root.parent / "leases"
        self._lease: Lease | None = None
        self.device = device
        self.threads = threads or cores()
        self.watcher = watcher or Watcher()

    def path(self, stage: Stage[A], key: str) -> Path:
        """Where the finished directory of this key lies, or would lie."""
        return self.root / f"{stage.name}-{key}"

    def find(self, stage: Stage[A], settings: BaseModel, *inputs: BaseModel) -> A | None:
        """The finished artifact, None if it is still to be made.

        Raises:
            OtherFormat: another version of this program made it.
        """
        path = self.path(stage, stage.key(settings, *inputs))
        if self._lease:
            self._lease.add(path.name)
        return sealed.load(stage.makes, path)

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Until the block ends, nothing removes what is found or made in it."""
        if self._lease:
            yield
            return
        self._lease = Lease(self._leases)
        try:
            yield
        finally:
            self._lease.end()
            self._lease = None

    def do(self, stage: Stage[A], settings: BaseModel, *inputs: BaseModel) -> A:
        """The artifact of a stage: found, or made in a fresh process.

        Raises:
            PipelineError: what the stage raised.
        """
        with self.lease():
            if found := self.find(stage, settings, *inputs):
                self.watcher.ready(stage.name)
                return found
            self.watcher.start(stage.name)
            self._run(stage, settings, inputs)
            made = self.find(stage, settings, *inputs)
            if made is None or (record := sealed.read(made.path)) is None:
                raise RuntimeError(f"{stage.name} ended well and left nothing")
            self.watcher.done(stage.name, record.made.seconds)
            return made

    def records(self, stage: Stage[A]) -> Iterator[tuple[Path, StageRecord]]:
        """The finished directories of a stage with their records, the newest first."""
        found = []
        for path in self.root.glob(f"{stage.name}-*"):
            with suppress(OtherFormat, OSError):  # a newer program's, or gone meanwhile
                record = sealed.read(path)
                if _OURS.fullmatch(path.name) and record and sealed.load(stage.makes, path):
                    found.append((record.made.when, path, record))
        for _, path, record in sorted(found, key=lambda one: one[:2], reverse=True):
            yield path, record

    def sweep(
        self, used: Callable[[], set[str]], *, dry_run: bool = False
    ) -> list[tuple[str, int]]:
        """Remove every directory of ours that nothing uses.

        Args:
            used: tells the names that are needed. It is asked when no running command can begin to
                use another one, or end; what those use stays as well.

        Returns: names removed and their bytes.
        """
        removed = []
        with turn(self._leases):
            keep = used() | leased(self._leases)
            for path in sorted(self.root.glob("*")):
                ours = _OURS.fullmatch(path.name)
                if not ours or path.is_symlink() or not path.is_dir():
                    continue
                if path.name in keep or (ours[1] in keep and ours[2] == ".draft"):
                    continue
                with suppress(Timeout), FileLock(self.root / f"{ours[1]}.lock", timeout=0):
                    removed.append((path.name, _size(path)))
                    if not dry_run:
                        shutil.rmtree(path)
                        (self.root / f"{ours[1]}.log").unlink(missing_ok=True)
        return removed

    def _run(self, stage: Stage[A], settings: BaseModel, inputs: tuple[BaseModel, ...]) -> None:
        """One stage in a child process; its events come through a pipe as JSON lines."""
        private.folder(self.root)
        job: dict[str, Any] = {
            "stage": stage.name,
            "key": stage.key(settings, *inputs),
            "root": str(self.root),
            "settings": settings.model_dump(mode="json"),
            "inputs": [[_import_path(type(i)), i.model_dump(mode="json")] for i in inputs],
            "device": self.device,
            "threads": self.threads,
        }
        log = self.root / f"{stage.name}-{job['key']}.log"
        read_end, write_end = os.pipe()
        with open(log, "ab", opener=private.opener) as out:  # a pipe could fill up unread
            process = subprocess.Popen(
                [*PYTHON, "-m", "pipeline.worker", str(write_end)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                pass_fds=[write_end],
                start_new_session=True,  # Ctrl-C reaches this process alone, which ends the child
                env=environment(visible(self.device)),
            )
        os.close(write_end)
        assert process.stdin is not None
        with process.stdin as stdin:
            try:
                with suppress(BrokenPipeError):  # it died before it read: its log tells why
                    stdin.write(canonical(job).encode())
                    stdin.close()
                failure = self._listen(stage.name, read_end)
                code = process.wait()
            except BaseException:  # Ctrl-C among them: nothing of ours goes on writing
                process.kill()
                process.wait()
                raise
        if failure:
            raise failure
        if code != 0:
            again = "goes on where it was" if stage.resumes else "begins anew"
            raise ToolFailed(
                _ended(stage.name, code, log), f"Run again: {stage.name} {again}. Log: {log}"
            )

    def _listen(self, stage: str, read_end: int) -> Exception | None:
        """Pass the child's events on until it closes the pipe; its error, if it sent one."""
        failure: Exception | None = None
        with os.fdopen(read_end, encoding="utf-8") as events:
            for line in events:
                event = json.loads(line)
                if "progress" in event:
                    self.watcher.report(stage, Progress(**event["progress"]))
                elif "say" in event:
                    self.watcher.say(stage, event["say"])
                elif "error" in event:
                    failure = _revive(**event["error"])
        return failure


def _size(folder: Path) -> int:
    """Bytes of a folder's files; what a link points at is not counted."""
    return sum(file.lstat().st_size for file in folder.rglob("*"))


def _import_path(kind: type[BaseModel]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _revive(kind: str, what: str, next_step: str) -> Exception:
    """The child's error as the same class here; a bug of ours with the child's trace."""
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, PipelineError):
        return known(what, next_step)
    return RuntimeError(what)


def _ended(stage: str, code: int, log: Path) -> str:
    """A child that died without a word, in one sentence."""
    if code == -9:
        return f"{stage} was killed by the system: most likely the machine ran out of memory"
    if code == -4:
        return f"{stage} died of an illegal instruction: a build for another CPU"
    said = log.read_text(errors="replace") if log.exists() else ""
    last = (said.strip().splitlines() or ["no message"])[-1]
    return f"{stage} ended with code {code}: {last}"
