"""An engine that makes each stage in a process of its own.

A fresh process gives back all memory, keeps foreign libraries' threads, patches and prints out of
this one, and dies with it.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.common import errors, private
from pipeline.common.errors import PipelineError, ToolFailed
from pipeline.common.progress import Progress
from pipeline.common.values import canonical
from pipeline.made.stage import Stage
from pipeline.run.engine import Engine, Job, Watcher
from pipeline.run.store import Store
from pipeline.tools.children import environment, module
from pipeline.tools.cores import cores
from pipeline.tools.device import visible

_RUNS = count()


class ChildProcess(Engine):
    """Makes stages on `device` with so many threads."""

    def __init__(
        self,
        store: Store | None = None,
        watcher: Watcher | None = None,
        *,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        super().__init__(store, watcher)
        self.device = device
        self.threads = threads or cores()

    def run(self, stage: Stage[Any], job: Job) -> None:
        """One stage in a child process; its events come through a pipe as JSON lines."""
        private.folder(self.store.root)
        order = {
            "job": job.model_dump(mode="json"),
            "home": str(self.store.home),
            "device": self.device,
            "threads": self.threads,
        }
        log = self.store.root / f"{job.name}.{os.getpid()}-{next(_RUNS)}.log"  # of this run alone
        read_end, write_end = os.pipe()
        with open(log, "ab", opener=private.opener) as out:  # a pipe could fill up unread
            process = subprocess.Popen(
                module("pipeline.run.worker", str(write_end)),
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
                    stdin.write(canonical(order).encode())
                    stdin.close()
                failure = self._listen(stage.name, read_end)
                code = process.wait()
            except BaseException:  # Ctrl-C among them: nothing of ours goes on writing
                process.kill()
                process.wait()
                raise
        if code == 0 or isinstance(failure, PipelineError):
            log.unlink(missing_ok=True)
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
                if not line.endswith("\n"):  # it was killed in the middle of a word
                    break
                event = json.loads(line)
                if "progress" in event:
                    self.watcher.report(stage, Progress(**event["progress"]))
                elif "say" in event:
                    self.watcher.say(stage, event["say"])
                elif "error" in event:
                    failure = _revive(**event["error"])
        return failure


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
