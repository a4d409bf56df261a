"""The process that makes one stage directory: module `pipeline.run.worker FD`, a job on stdin.

It holds the key's lock while it writes, seals the directory (record last, then one rename), and
sends progress and its error as JSON lines to file descriptor FD.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.common import private
from pipeline.common.errors import PipelineError, ToolFailed
from pipeline.common.values import sync
from pipeline.made.sealed import Key, Made, StageRecord, load, seal
from pipeline.made.stage import Stage, Where
from pipeline.run.engine import Job
from pipeline.run.store import Store
from pipeline.tools.children import die_with_us

RECORDED = ("torch", "transformers", "unsloth", "trl", "peft", "gguf")
NEARLY_FULL = 64 << 20  # bytes: with less than this left, a failed write means a full disk


def main() -> int:
    """Run the job; 0 if the finished directory is there."""
    die_with_us()
    private.shield()
    send = _sender(int(sys.argv[1]))
    order = json.loads(sys.stdin.buffer.read())
    store = Store(Path(order["home"]))
    job = Job.model_validate(order["job"])
    where = Where(
        device=order["device"],
        threads=order["threads"],
        report=lambda progress: send(progress=asdict(progress)),
        say=lambda line: send(say=line),
    )
    try:
        perform(job, store, where)
    except PipelineError as error:
        send(error=_as_event(type(error).__name__, error.what, error.next_step))
        return 1
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            full = _full(job.stage, store.root)
            send(error=_as_event("ToolFailed", full.what, full.next_step))
        else:
            send(error=_as_event("", traceback.format_exc(), ""))
        return 1
    return 0


def perform(job: Job, store: Store, where: Where) -> None:
    """Make one stage directory under its lock, unless another process has just made it.

    Raises:
        PipelineError: what the stage raised.
    """
    module = importlib.import_module(job.module)
    stage: Stage[Any] = module.STAGE
    final = private.folder(store.root) / job.name
    with _locked(store.root / f"{job.name}.lock", where):
        if load(stage.makes, final):
            return
        if os.path.lexists(final):
            _set_aside(final, where)
        draft = store.root / f"{job.name}.draft"
        if not stage.resumes or draft.is_symlink() or not draft.is_dir():
            _clear(draft)
        draft.mkdir(exist_ok=True)
        settings = stage.settings.model_validate(job.settings)
        inputs = {name: store.input(kind, job.inputs[name]) for name, kind in stage.inputs.items()}
        began = time.monotonic()
        try:
            artifact = module.run(draft, settings, *inputs.values(), where=where)
            record = StageRecord(
                artifact=artifact.model_dump(mode="json", exclude={"path"}),
                key=Key.model_validate(stage.parts(settings, inputs)),
                inputs=stage.named(inputs),
                made=_circumstances(where, time.monotonic() - began),
            )
            seal(draft, record)
        except Exception as error:
            full = _disk_is_full(error, store.root)  # asked before the draft goes
            if not stage.resumes:
                shutil.rmtree(draft, ignore_errors=True)
            if full:
                raise _full(stage.name, store.root) from error
            raise
        os.sync()
        os.rename(draft, final)
        sync(store.root)


def _set_aside(final: Path, where: Where) -> None:
    """A finished directory of which something is missing: kept until `gc`, and made again."""
    damaged = final.with_name(f"{final.name}.damaged")
    _clear(damaged)
    os.rename(final, damaged)
    where.say(f"{final.name} is not whole any more (a file or its record): it is made again")


def _clear(path: Path) -> None:
    """Nothing is there any more; what a link points at stays."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _locked(path: Path, where: Where) -> FileLock:
    """The lock, waited for with a word about it."""
    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        where.say("another run is making this; waiting for it")
        lock.acquire()
    return lock


def _circumstances(where: Where, seconds: float) -> Made:
    """What is worth knowing later and no part of the key."""
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return Made(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        peak_memory=peak * 1024,
        device=where.device,
        threads=where.threads,
        versions={name: metadata.version(name) for name in RECORDED if name in sys.modules},
    )


def _sender(descriptor: int) -> Callable[..., None]:
    os.set_inheritable(descriptor, False)
    pipe = os.fdopen(descriptor, "w", encoding="utf-8")

    def send(**event: Any) -> None:
        pipe.write(json.dumps(event) + "\n")
        pipe.flush()

    return send


def _as_event(kind: str, what: str, next_step: str) -> dict[str, str]:
    return {"kind": kind, "what": what, "next_step": next_step}


def _disk_is_full(error: Exception, root: Path) -> bool:
    """Foreign libraries hide ENOSPC behind errors of their own; the disk itself tells."""
    if isinstance(error, PipelineError) and not isinstance(error, ToolFailed):
        return False
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return True
    told = os.strerror(errno.ENOSPC) in str(error)
    return told or shutil.disk_usage(root).free < NEARLY_FULL


def _full(stage: str, root: Path) -> ToolFailed:
    free = shutil.disk_usage(root).free / 1e9
    return ToolFailed(
        f"the disk is full: {stage} needs more than the {free:.1f} GB free under {root.parent}",
        "Free some space (`specialist gc` removes what no release uses) and run again.",
    )


if __name__ == "__main__":
    sys.exit(main())
