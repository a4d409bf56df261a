"""Finished stage directories by key, and how a stage is run: in a process of its own.

    <home>/stages/<name>-<key>/         whole: its record.json was written last, then one rename
    <home>/stages/<name>-<key>.draft/   being made, or left by a run that was killed
    <home>/stages/<name>-<key>.lock     held by the process that writes

A fresh process gives back all memory, keeps foreign libraries' threads, patches and prints out of
this one, and dies with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from pipeline import errors, places
from pipeline.artifacts import Artifact, load
from pipeline.device import visible
from pipeline.errors import PipelineError, ToolFailed
from pipeline.stage import Progress, Stage
from pipeline.tools.children import tied
from pipeline.tools.cores import cores
from pipeline.values import canonical, read_json

A = TypeVar("A", bound=Artifact)

QUIET = {  # for the libraries of a stage: nothing is fetched, nothing is sent, starts are quick
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "WANDB_DISABLED": "true",
    "TRACKIO_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "GOMP_SPINCOUNT": "20000",  # longer is ruinous on a busy machine, less is slow on a quiet one
    "PYTHONUTF8": "1",
    "SPECIALIST_STAGE": "1",  # llama.cpp's warnings go to the stage's log
    "PYTHONDONTWRITEBYTECODE": "",  # compiling the libraries takes longer than all else of a start
}


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
        self.device = device
        self.threads = threads or cores()
        self.watcher = watcher or Watcher()

    def path(self, stage: Stage[A], key: str) -> Path:
        """Where the finished directory of this key lies, or would lie."""
        return self.root / f"{stage.name}-{key}"

    def find(self, stage: Stage[A], settings: BaseModel, *inputs: BaseModel) -> A | None:
        """The finished artifact, None if it is still to be made."""
        return load(stage.makes, self.path(stage, stage.key(settings, *inputs)))

    def do(self, stage: Stage[A], settings: BaseModel, *inputs: BaseModel) -> A:
        """The artifact of a stage: found, or made in a fresh process.

        Raises:
            PipelineError: what the stage raised.
        """
        if found := self.find(stage, settings, *inputs):
            self.watcher.ready(stage.name)
            return found
        self.watcher.start(stage.name)
        self._run(stage, settings, inputs)
        made = self.find(stage, settings, *inputs)
        if made is None:
            raise RuntimeError(f"{stage.name} ended well and left nothing")
        seconds = read_json(made.path / "record.json")["made"]["seconds"]
        self.watcher.done(stage.name, seconds)
        return made

    def records(self, stage: Stage[A]) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The finished directories of a stage with their records, the newest first."""
        found = self.root.glob(f"{stage.name}-*/record.json")
        for record in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
            if load(stage.makes, record.parent):
                yield record.parent, read_json(record)

    def sweep(self, keep: set[str], *, dry_run: bool = False) -> list[tuple[str, int]]:
        """Remove every directory whose name is not in `keep`; drafts in use stay.

        Returns: names removed and their bytes.
        """
        from filelock import FileLock, Timeout

        removed = []
        for path in sorted(self.root.glob("*-*")):
            name = path.name.removesuffix(".draft")
            if not path.is_dir() or path.name in keep:
                continue
            lock = FileLock(self.root / f"{name}.lock", timeout=0)
            try:
                with lock:
                    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
                    if not dry_run:
                        shutil.rmtree(path)
                    removed.append((path.name, size))
            except Timeout:
                continue
        return removed

    def _run(self, stage: Stage[A], settings: BaseModel, inputs: tuple[BaseModel, ...]) -> None:
        """One stage in a child process; its events come through a pipe as JSON lines."""
        self.root.mkdir(parents=True, exist_ok=True)
        job: dict[str, Any] = {
            "stage": stage.name,
            "key": stage.key(settings, *inputs),
            "root": str(self.root),
            "settings": settings.model_dump(mode="json"),
            "inputs": [[_import_path(type(i)), i.model_dump(mode="json")] for i in inputs],
            "device": self.device,
            "threads": self.threads,
        }
        read_end, write_end = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.worker", str(write_end)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[write_end],
            preexec_fn=tied(),
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the child
            env=self._environment(),
        )
        os.close(write_end)
        assert process.stdin is not None and process.stderr is not None
        with process.stdin as stdin, process.stderr as stderr:
            try:
                stdin.write(canonical(job).encode())
                stdin.close()
                failure = self._listen(stage.name, read_end)
                trace = stderr.read().decode(errors="replace")
                code = process.wait()
            except BaseException:  # Ctrl-C among them: nothing of ours goes on writing
                process.kill()
                process.wait()
                raise
        if failure:
            raise failure
        if code != 0:
            log = self.path(stage, job["key"]).with_suffix(".log")
            again = "goes on where it was" if stage.resumes else "begins anew"
            raise ToolFailed(
                _ended(stage.name, code, trace, log), f"Run again: {stage.name} {again}. Log: {log}"
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

    def _environment(self) -> dict[str, str]:
        project = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH", "")]))
        return {**os.environ, **QUIET, **visible(self.device), "PYTHONPATH": path}


def _import_path(kind: type[BaseModel]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _revive(kind: str, what: str, next_step: str) -> Exception:
    """The child's error as the same class here; a bug of ours with the child's trace."""
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, PipelineError):
        return known(what, next_step)
    return RuntimeError(what)


def _ended(stage: str, code: int, trace: str, log: Path) -> str:
    """A child that died without a word, in one sentence."""
    if code == -9:
        return f"{stage} was killed by the system: most likely the machine ran out of memory"
    if code == -4:
        return f"{stage} died of an illegal instruction: a build for another CPU"
    said = trace + (log.read_text(errors="replace") if log.exists() else "")
    last = (said.strip().splitlines() or ["no message"])[-1]
    return f"{stage} ended with code {code}: {last}"
