"""An evaluation with what the model really answers to its held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.common.errors import PipelineError
from pipeline.evaluation.answers import asking, kept
from pipeline.evaluation.answers.measures import answered
from pipeline.evaluation.rivals import Evaluation
from pipeline.made.artifacts import Specialist
from pipeline.spec.rules import Rule
from pipeline.tools import host, server
from pipeline.tools.ollama import Ollama


def with_answers(
    found: Evaluation,
    made: Specialist,
    ollama: Ollama,
    tag: str,
    rules: Sequence[Rule],
    report: asking.Report = lambda progress: None,
) -> Evaluation:
    """Every held-out row asked of a model in Ollama, as a user asks.

    Args:
        tag: its name there.
        rules: of the user's.

    Raises:
        Missing: Ollama has no such model.
        ToolFailed, ProofFailed: it does not answer.
    """
    answers = asking.ask(
        ollama,
        tag,
        found.specialist.name,
        made.data.each("test"),
        made.system,
        made.parameters,
        kept.folder(),
        report,
        limit=asking.most(made),
    )
    told = answered(answers, list(made.data.each("train")), made.system, rules)
    return replace(found, answers=told)


def of_version(
    found: Evaluation,
    made: Specialist,
    rules: Sequence[Rule],
    say: Callable[[str], None],
    report: asking.Report = lambda progress: None,
) -> Evaluation:
    """The same of a version, where its Ollama answers and still has it; else why not is said."""
    version = found.version
    try:
        where = host.address({"OLLAMA_HOST": version.ollama})
        if not server.answers(where, timeout=1.0):
            say(f"its answers are not measured: no Ollama answers at {version.ollama}")
            return found
        with Ollama(where) as ollama:
            if ollama.digest(version.tag) != version.manifest:
                say(f"its answers are not measured: {version.tag} is not in that Ollama")
                return found
            return with_answers(found, made, ollama, version.tag, rules, report)
    except PipelineError as error:
        say(f"its answers are not measured: {error.what}")
        return found
