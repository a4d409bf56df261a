"""Publish, prove, judge, promote: the only code that changes the world outside the store.

    NAME:candidate-…   registered, and removed again: by this run, or by the next if it was killed
    NAME:vN            what is proven; it never changes
    NAME:latest        moves to it last

Never cached, and safe to repeat: a release that was broken off anywhere is made again as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pipeline.common import places
from pipeline.common.digests import file_digest
from pipeline.common.errors import PipelineError, ProofFailed, Stopped, ToolFailed
from pipeline.made.artifacts import Specialist
from pipeline.made.stage import Where
from pipeline.release import held_out, history, ours, verdict
from pipeline.release.candidate import Candidate
from pipeline.release.history import History
from pipeline.release.locks import alone
from pipeline.release.ours import already_released, check_name_is_ours
from pipeline.release.promotion import begin, promote, undo
from pipeline.release.proof import Proof, prove
from pipeline.release.take_over import take_over
from pipeline.release.text import write_text
from pipeline.release.verdict import Judge, Verdict
from pipeline.release.version import Version
from pipeline.tools.ollama import Ollama

__all__ = ["Version", "already_released", "check_name_is_ours", "release"]

Settings = Mapping[str, dict[str, Any]]
"""Of each stage."""


def release(
    made: Specialist,
    ollama: Ollama,
    *,
    where: Where | None = None,
    replace: bool = False,
    settings: Settings | None = None,
    judge: Judge = verdict.judge,
    because: str = "",
) -> Version:
    """Register a specialist as NAME and NAME:vN, after the proof that it is served as trained.

    Args:
        replace: take the name even if a model has it that was not made here.
        settings: of each stage, for the record.
        judge: decides after the proof.
        because: why it is served even where the verdict is stop; '' where it is not.

    Raises:
        BadInput: the name is another model's.
        ProofFailed: the first difference; NAME is what it was before.
        Stopped: the verdict; NAME is what it was before, and the new version stays as NAME:vN.
    """
    where = where or Where()
    with alone(made.name, where.say):
        put_right(made.name, ollama, where.say)

        def check() -> None:
            check_name_is_ours(made.name, ollama, replace=replace)

        known = history.history(made.name)
        if served := ours.served_already(made, known, ollama):
            return served  # another run was faster
        check()
        journal = begin(made.name, ollama)
        try:
            earlier = _stopped_before(made, known, ollama)
            candidate, proof = earlier or _proven(made, ollama, journal.candidate, where)
            judged = judge(made, candidate, proof)
            if judged.stopped:
                judged = judged.model_copy(update={"because": because})
            if earlier and judged.stopped:
                raise _stopped(made.name, candidate.name, judged)
            ready = _record(made, ollama, candidate.digest, settings or {}, proof, judged)
            version = promote(
                made.name,
                ollama,
                candidate,
                journal,
                lambda number: ready.model_copy(update={"version": number}),
                check,
            )
        except ProofFailed as error:
            raise ProofFailed(
                f"{made.name} was not registered: {error}", error.next_step
            ) from error
        finally:
            with suppress(PipelineError):
                undo(made.name, ollama)
        _tell_of_an_equal_one(version, where.say)
        if version.stopped:
            raise _stopped(made.name, version.tag, judged)
        for reason in judged.reasons:
            where.say(f"{'served in spite of it' if judged.because else 'open question'}: {reason}")
        write_text(version, made.packed.served.path, where.say)
    return version


def put_right(name: str, ollama: Ollama, say: Callable[[str], None]) -> None:
    """Finish or undo what a killed run left, and take over what an older program released."""
    undo(name, ollama, say)
    take_over(name, ollama)


def _proven(made: Specialist, ollama: Ollama, name: str, where: Where) -> tuple[Candidate, Proof]:
    candidate = publish(made, ollama, name, where)
    return candidate, prove(ollama, candidate, made, where)


def _stopped_before(
    made: Specialist, known: History | None, ollama: Ollama
) -> tuple[Candidate, Proof] | None:
    """What was proven and stopped before, if it is the same and still there: no second version."""
    version = known.stopped(ours.wanted(made)) if known else None
    if version is None or version.proof is None:
        return None
    there = ollama.digest(version.tag) == version.manifest
    return (Candidate(version.tag, version.manifest), version.proof) if there else None


def _stopped(name: str, tag: str, found: Verdict) -> Stopped:
    """The verdict as an error: why, the worst rows, what to do."""
    lines = [f"{tag} is proven, and is not served: {'; '.join(found.reasons)}", *found.worst]
    steps = [check.next_step for check in found.checks if check.blocks and check.next_step]
    rest = (
        f"{name} is what it was before. Look at {tag}: ollama run {tag}. To serve it in spite of"
        " this: --force --because '…'"
    )
    return Stopped("\n  ".join(lines), "\n  ".join([*dict.fromkeys(steps), rest]))


def _tell_of_an_equal_one(version: Version, say: Callable[[str], None]) -> None:
    known = history.history(version.name)
    for other in known.there if known else []:
        if other.wanted == version.wanted and other.version < version.version:
            say(f"{version.label} is made of the same as {other.label}, and proven anew")
            return


def settle(name: str, ollama: Ollama, say: Callable[[str], None], *, replace: bool = False) -> None:
    """Put right what a killed run left, and see that the name is ours: before any long work.

    Raises:
        BadInput: the name is another model's.
        Unreadable: a record or its journal.
    """
    with alone(name, say):
        put_right(name, ollama, say)
        check_name_is_ours(name, ollama, replace=replace)


def nothing_to_do(made: Specialist, ollama: Ollama, say: Callable[[str], None]) -> Version | None:
    """The version that Ollama serves, if it is exactly this.

    The history then names the directories that were found, and what was put back by hand; the text
    is that of what is served.
    """
    with alone(made.name, say):
        known = history.history(made.name)
        served = ours.served_already(made, known, ollama)
        if known and served:
            stages = dict(known.head.stages)
            if served.stages != list(made.stages):
                stages[served.version] = list(made.stages)
            history.update(known, current=served.version, stages=stages)
            write_text(ours.with_values(served, made), made.packed.served.path, say)
        return served


def publish(made: Specialist, ollama: Ollama, name: str, where: Where) -> Candidate:
    """Upload the GGUF, unless Ollama has it, and register it under a name of no consequence.

    Raises:
        ToolFailed: Ollama has it not, whatever it said.
    """
    digest = file_digest(made.packed.served.path)
    ollama.upload(made.packed.served.path, digest, where.report)
    ollama.create(
        name,
        digest,
        system=made.system,
        parameters=made.parameters,
        license=made.license,
        projectors=made.base.projectors,
        renders=made.base.renders,
        report=where.report,
    )
    if (manifest := ollama.digest(name)) is None:
        raise ToolFailed(f"{name} is gone from Ollama", "Run the same command again.")
    return Candidate(name, manifest)


def _record(
    made: Specialist,
    ollama: Ollama,
    manifest: str,
    settings: Settings,
    proof: Proof,
    judged: Verdict,
) -> Version:
    """The record of a version that has no number yet."""
    return Version(
        version=0,
        name=made.name,
        manifest=manifest,
        ollama=ollama.address.url,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        wanted=ours.wanted(made),
        base=made.base.name,
        origin=made.origin,
        origin_digest=made.origin_digest,
        origin_weights=made.origin_weights,
        data=made.data.digest,
        rows=made.data.rows,
        trained=held_out.noted(held_out.names(made.data, "train")),
        tested=held_out.noted(held_out.names(made.data, "test")),
        loss=made.adapter.loss,
        quantization=made.packed.quantization,
        size=made.packed.size,
        digests=ours.digests(made),
        stages=list(made.stages),
        settings=dict(settings),
        system=made.system,
        parameters=made.parameters,
        license=made.license,
        versions={"ollama": ollama.version(), "llama-cpp-python": places.LLAMA_CPP_PYTHON},
        proof=proof,
        verdict=judged,
    )
