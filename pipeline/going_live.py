"""From what is made to what is served: proven, judged, registered; and its page."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.bases.reference import resolve
from pipeline.common.errors import Stopped
from pipeline.common.progress import Shown
from pipeline.evaluation import judging
from pipeline.evaluation.gate import Bounds
from pipeline.evaluation.page import page
from pipeline.evaluation.page.gather import gather
from pipeline.evaluation.rivals import Evaluation, released
from pipeline.made.artifacts import Specialist
from pipeline.made.stage import Where
from pipeline.release import history, ours, publish, reports
from pipeline.release.candidate import Candidate
from pipeline.release.proof import Proof
from pipeline.release.verdict import Judge, Verdict
from pipeline.release.version import Version
from pipeline.run.child_process import ChildProcess
from pipeline.spec.spec import Spec
from pipeline.tools.ollama import Ollama


def release(
    asked: Spec,
    made: Specialist,
    ollama: Ollama,
    engine: ChildProcess,
    shown: Shown,
    *,
    replace: bool,
    because: str,
) -> None:
    """Prove, judge, let NAME be it, and write its page.

    Args:
        asked: what it was made by.
        replace: take the name even if another model has it.
        because: why it is served even if it is not better; '' where it is not.

    Raises:
        PipelineError: as for `publish.release`.
    """
    shown.start("release")
    settings = dict(engine.settings)  # of what is made; what is measured is no part of it
    measured: list[Evaluation] = []
    judge = _judge(asked, ollama, engine, shown, measured.append)
    where = Where(
        threads=engine.threads,
        report=lambda progress: shown.report("release", progress),
        say=lambda line: shown.say("release", line),
    )
    try:
        version = publish.release(
            made,
            ollama,
            where=where,
            replace=replace,
            settings=settings,
            judge=judge,
            because=because,
        )
    except Stopped:
        known = history.history(made.name)
        if stopped := known.stopped(ours.wanted(made)) if known else None:
            _report(stopped, made, measured, shown)
        raise
    if version.proof:
        shown.say("release", version.proof.summary)
    shown.done("release", f"registered as {version.tag}")
    _report(version, made, measured, shown)


def _report(version: Version, made: Specialist, found: list[Evaluation], shown: Shown) -> None:
    """Its page, where it was measured."""
    if found:
        told = gather(released(found[-1], version), made)
        path = page.write(told, reports.file(version.name, version.version))
        shown.say("report", str(path))


def _shown(judge: Judge, shown: Shown) -> Judge:
    """The same with a line of its own."""

    def decide(made: Specialist, candidate: Candidate, proof: Proof) -> Verdict:
        shown.start("evaluate")
        found = judge(made, candidate, proof)
        for each in found.checks:
            if each.found == "good":
                shown.say("evaluate", each.sentence)
        shown.done("evaluate", found.says)
        return found

    return decide


def _judge(
    asked: Spec,
    ollama: Ollama,
    engine: ChildProcess,
    shown: Shown,
    keep: Callable[[Evaluation], None],
) -> Judge:
    """Who decides, as the user wants it."""
    if not asked.evaluate.enabled:
        return judging.unasked
    bounds = Bounds(
        policy=asked.evaluate.policy,
        require_examples=asked.evaluate.require_examples,
        rules=asked.evaluate.rules,
        keeps=asked.tune.keep > 0,
    )
    return _shown(
        judging.judge(
            lambda: resolve(asked.base, asked.beside),
            engine,
            ollama,
            bounds,
            lambda line: shown.say("evaluate", line),
            lambda progress: shown.report("evaluate", progress),
            keep,
        ),
        shown,
    )
