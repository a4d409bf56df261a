"""What a specialist is compared with: its base as it came, and its base with examples to go by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.common.errors import BadInput, PipelineError
from pipeline.common.values import digest_of
from pipeline.evaluation import memory
from pipeline.evaluation.compare import Comparison, Measured, compare, measured
from pipeline.evaluation.memory import Drift, Memory
from pipeline.made.artifacts import Scored, Specialist
from pipeline.release import base_beside, held_out, made_of
from pipeline.release.history import History
from pipeline.release.version import Version
from pipeline.run.engine import Engine
from pipeline.stages import bare, drift, recall, score
from pipeline.stages.preparing.groups import name
from pipeline.stages.settings import Bare, Recall, Score

EXAMPLES = 8  # at most, in half of the context that is served
CONTEXT = 4096  # tokens, where no PARAMETER says it
Say = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """All that was measured of a version."""

    version: Version
    specialist: Measured
    rivals: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    memory: Memory | None
    """None where the base could not be asked."""
    drift: Drift | None
    candidates: int = 0
    """Versions that were judged on these rows, this one among them."""


def evaluate(
    version: Version,
    engine: Engine,
    folders: Sequence[Path],
    say: Say = lambda line: None,
    against: Sequence[Version] = (),
    known: History | None = None,
) -> Evaluation:
    """Score a version and its rivals on the rows of its test part.

    Args:
        folders: that a relative FROM may start from.
        say: told what is measured, and what could not be, and why.
        against: other versions, which are compared on the rows that neither trained.
        known: the versions of this name: told is how often these rows have chosen among them.

    Raises:
        BadInput: no row was held back, or a version to be compared with has another base.
        Missing: what the version was made of has gone from the store.
    """
    made = made_of.specialist(version, engine.store)
    if not made.data.test:
        raise BadInput(
            f"{version.tag} held back no row to be tested on",
            f"Add rows: of {made.data.rows} none is left to test.",
        )
    say(f"{version.tag}, {made.data.test} rows")
    specialist = _measured(version.tag, engine, made, _served(made), Score())
    rivals = [
        _measured(f"{version.tag} as {kind}", engine, made, _packed(made, kind), Score())
        for kind in list(made.packed.files)[1:]
    ]
    rivals += [_other(each, engine, version, made) for each in against]
    kept: Memory | None = None
    far: Drift | None = None
    try:
        base = _base(version, made, engine, folders)
    except PipelineError as error:
        say(f"the base is not measured: {error.what}")
    else:
        say(f"the base, {made.base.name}")
        rivals += _of_base(engine, made, base, say)
        say("everyday questions, for both")
        kept, far = _remembered(engine, made, base), _drifted(engine, made, base)
    compared = tuple(_compared(specialist, rival) for rival in rivals)
    chosen = held_out.times_decided(known, made.data)
    return Evaluation(version, specialist, tuple(rivals), compared, kept, far, chosen)


def _remembered(engine: Engine, made: Specialist, base: Scored) -> Memory:
    """Everyday questions, asked of both as the specialist is served."""
    asked = Recall(system=made.system)
    found = [
        list(engine.do(recall.STAGE, asked, base=made.base, model=model).each())
        for model in (base, _served(made))
    ]
    return memory.memory(*found)


def _compared(specialist: Measured, rival: Measured) -> Comparison:
    try:
        return compare(specialist, rival)
    except ValueError as error:
        raise BadInput(
            f"no row was held back by both {specialist.name} and {rival.name}",
            "They were made of other rows: compare each with its base.",
        ) from error


def _other(version: Version, engine: Engine, mine: Version, made: Specialist) -> Measured:
    """Another version, on the rows that neither of the two trained.

    Asked as it is served. Where both have the same system message, these are all rows of this test
    part that the other did not train; else those of its own, behind its own system message.

    Raises:
        BadInput: its base is another one, whose tokens are other pieces of text.
    """
    other = made_of.specialist(version, engine.store)
    if other.base.digest != made.base.digest:
        raise BadInput(
            f"{version.tag} has another base ({other.base.name}): nats per token of different"
            " tokens cannot be compared",
            "Compare versions of the same base.",
        )
    asked = made if other.system == made.system else other
    found = _measured(version.tag, engine, asked, _served(other), Score())
    return _without_trained(found, (mine, made), (version, other))


def _without_trained(found: Measured, *both: tuple[Version, Specialist]) -> Measured:
    """The rows that no version trained."""
    trained = frozenset[str]().union(
        *(held_out.read(one.trained) or held_out.names(its.data, "train") for one, its in both)
    )
    names = {
        score.named(row): name(row["messages"]) for _, its in both for row in its.data.each("test")
    }
    rows = {row: loss for row, loss in found.rows.items() if names[row] not in trained}
    return replace(found, rows=rows)


def _of_base(engine: Engine, made: Specialist, base: Scored, say: Say) -> list[Measured]:
    found = [_measured("the base", engine, made, base, Score())]
    context = int(str(made.parameters.get("num_ctx", CONTEXT)))
    asked = Score(examples=EXAMPLES, room=context // 2, system=made.system)
    try:
        scores = engine.do(score.STAGE, asked, base=made.base, data=made.data, model=base)
    except PipelineError as error:
        say(f"the base with examples is not measured: {error.what}")
        return found
    name = f"the base with {scores.examples} example{'' if scores.examples == 1 else 's'}"
    return [*found, measured(name, list(scores.each()))]


def _measured(name: str, engine: Engine, made: Specialist, model: Scored, asked: Score) -> Measured:
    scores = engine.do(score.STAGE, asked, base=made.base, data=made.data, model=model)
    return measured(name, list(scores.each()))


def _drifted(engine: Engine, made: Specialist, base: Scored) -> Drift:
    found = engine.do(
        drift.STAGE, Recall(system=made.system), base=made.base, model=base, other=_served(made)
    )
    return memory.drift(list(found.each()))


def _served(made: Specialist) -> Scored:
    return _packed(made, made.packed.quantization)


def _packed(made: Specialist, kind: str) -> Scored:
    file = made.packed.files[kind].path
    digest = digest_of({"gguf": made.packed.digest, "file": file.name})
    return Scored(digest=digest, path=file)


def _base(version: Version, made: Specialist, engine: Engine, folders: Sequence[Path]) -> Scored:
    """The base's own file, or one that is made of its directory in the specialist's type."""
    found = base_beside.found(version, folders)
    if found.format == "gguf":
        return Scored(digest=found.digest, path=found.path)
    stored = engine.do(bare.STAGE, Bare(quantization=made.packed.quantization), base=made.base)
    return Scored(digest=stored.digest, path=stored.served.path)
