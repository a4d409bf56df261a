"""Publish, prove, promote: the only code that changes the world outside the store.

    NAME:candidate-…   registered, and removed again: by this run, or by the next if it was killed
    NAME:latest        moves only after the proof
    NAME:previous      what NAME:latest was before; `ollama cp NAME:previous NAME` goes back

Never cached, and safe to repeat: a release that was broken off anywhere is made again as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.common import places, private
from pipeline.common.digests import file_digest
from pipeline.common.errors import PipelineError, ProofFailed, ToolFailed
from pipeline.common.values import whole
from pipeline.made.artifacts import Specialist
from pipeline.made.stage import Where
from pipeline.release import released
from pipeline.release.candidate import Candidate
from pipeline.release.promotion import begin, promote, undo
from pipeline.release.proof import Proof, prove
from pipeline.release.released import Record, already_released, check_name_is_ours
from pipeline.spec.modelfile import lossy, served
from pipeline.tools.ollama import Ollama

__all__ = ["Record", "already_released", "check_name_is_ours", "release"]


def release(
    made: Specialist, ollama: Ollama, *, where: Where | None = None, replace: bool = False
) -> Proof:
    """Register a specialist as NAME, after the proof that it is served as it was trained.

    Args:
        replace: take the name even if a model has it that was not made here.

    Raises:
        BadInput: the name is another model's.
        ProofFailed: the first difference; NAME is what it was before.
    """
    where = where or Where()
    with _alone(made.name, where.say):
        undo(made.name, ollama, where.say)  # what a run left that was killed

        def check() -> None:
            check_name_is_ours(made.name, ollama, replace=replace)

        check()
        journal = begin(made.name, ollama)
        try:
            candidate = publish(made, ollama, journal.candidate, where)
            proof = prove(ollama, candidate, made, where)
            promote(
                made.name,
                ollama,
                candidate,
                journal,
                lambda former: _record(made, ollama, candidate.digest, former, proof),
                check,
            )
        except ProofFailed as error:
            raise ProofFailed(
                f"{made.name} was not registered: {error}", error.next_step
            ) from error
        finally:
            with suppress(PipelineError):
                undo(made.name, ollama)
        _write_text(made, where.say)
    return proof


def settle(name: str, ollama: Ollama, say: Callable[[str], None], *, replace: bool = False) -> None:
    """Put right what a killed run left, and see that the name is ours: before any long work.

    Raises:
        BadInput: the name is another model's.
        Unreadable: its record or its journal.
    """
    with _alone(name, say):
        undo(name, ollama, say)
        check_name_is_ours(name, ollama, replace=replace)


def nothing_to_do(made: Specialist, ollama: Ollama, say: Callable[[str], None]) -> bool:
    """True if Ollama has exactly this; the record then names the directories that were found."""
    with _alone(made.name, say):
        if not already_released(made, ollama):
            return False
        released.keep_stages(made)
        return True


@contextmanager
def _alone(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """One release of a name at a time: they share the candidate."""
    path = released.file(name, "lock")
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


def publish(made: Specialist, ollama: Ollama, name: str, where: Where) -> Candidate:
    """Upload the GGUF, unless Ollama has it, and register it under a name of no consequence.

    Raises:
        ToolFailed: Ollama has it not, whatever it said.
    """
    digest = file_digest(made.gguf.file)
    ollama.upload(made.gguf.file, digest, where.report)
    ollama.create(
        name,
        digest,
        system=made.system,
        parameters=made.parameters,
        license=made.license,
        report=where.report,
    )
    if (manifest := ollama.digest(name)) is None:
        raise ToolFailed(f"{name} is gone from Ollama", "Run the same command again.")
    return Candidate(name, manifest)


def _record(
    made: Specialist, ollama: Ollama, manifest: str, former: str | None, proof: Proof
) -> Record:
    return Record(
        name=made.name,
        wanted=released.wanted(made),
        manifest=manifest,
        former=former,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        ollama=ollama.address.url,
        base=made.base.name,
        data=made.data.digest,
        rows=made.data.rows,
        loss=made.adapter.loss,
        quantization=made.gguf.quantization,
        size=made.gguf.size,
        digests=released.digests(made),
        stages=list(made.stages),
        versions={"ollama": ollama.version(), "llama-cpp-python": places.LLAMA_CPP_PYTHON},
        proof=proof,
    )


def _write_text(made: Specialist, say: Callable[[str], None]) -> Path:
    """The Modelfile of the served model, for people and for `ollama create -f`."""
    path = released.file(made.name, "Modelfile")
    with whole(path) as beside:
        beside.write_text(served(made, str(made.gguf.file.absolute())), encoding="utf-8")
    for what, text in (("SYSTEM", made.system), ("LICENSE", made.license)):
        for loss in lossy(text):
            say(f"{path.name}: ollama create would read {what} differently: {loss}.")
    return path
