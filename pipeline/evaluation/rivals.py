"""What a specialist is compared with: its base as it came, and its base with examples to go by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.bases.reference import Reference
from pipeline.common.errors import BadInput, PipelineError
from pipeline.common.values import digest_of
from pipeline.evaluation import memory
from pipeline.evaluation.answers.measures import Answered
from pipeline.evaluation.compare import Comparison, Kind, Measured, compare, measured
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
    memory: Memory | None
    """None where the base could not be asked."""
    drift: Drift | None
    missing: tuple[str, ...] = ()
    """What could not be measured, and why."""
    answers: Answered | None = None
    """Of the specialist to its held-out rows, through Ollama; None where it was not asked."""
    candidates: int = 0
    """Versions that were judged on these rows, this one among them; 0 where it is not known."""

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """With each rival."""
        return tuple(compare(self.specialist, rival) for rival in self.rivals)


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
    found = measure(version, made, partial(base_beside.found, version, folders), engine, say)
    for other in against:
        found = with_version(found, made, other, engine)
    return replace(found, candidates=held_out.times_decided(known, made.data))


def measure(
    version: Version,
    made: Specialist,
    base: Callable[[], Reference],
    engine: Engine,
    say: Say = lambda line: None,
) -> Evaluation:
    """Score what a version is made of, and its base.

    Args:
        base: finds it.

    Raises:
        BadInput: no row was held back.
    """
    if not made.data.test:
        raise BadInput(
            f"{made.name} held back no row to be tested on",
            f"Add rows: of {made.data.rows} none is left to test.",
        )
    called = version.tag if version.version else f"the new {made.name}"
    say(f"{called}, {made.data.test} rows")
    specialist = _measured(called, "specialist", engine, made, _served(made))
    rivals = [
        _measured(f"{called} as {kind}", "type", engine, made, _packed(made, kind))
        for kind in list(made.packed.files)[1:]
    ]
    kept: Memory | None = None
    far: Drift | None = None
    missing: list[str] = []
    try:
        stored = _base(base(), made, engine)
    except PipelineError as error:
        missing.append(f"the base is not measured: {error.what}")
    else:
        say(f"the base, {made.base.name}")
        rivals.append(_measured("the base", "base", engine, made, stored))
        try:
            rivals.append(_with_examples(engine, made, stored))
        except PipelineError as error:
            missing.append(f"the base with examples is not measured: {error.what}")
        say("everyday questions, for both")
        kept, far = _remembered(engine, made, stored), _drifted(engine, made, stored)
    for line in missing:
        say(line)
    return Evaluation(version, specialist, tuple(rivals), kept, far, tuple(missing))


def released(found: Evaluation, version: Version) -> Evaluation:
    """What was measured of a candidate, as that of the version that it became."""
    before = found.specialist.name

    def called(one: Measured) -> Measured:
        return replace(one, name=one.name.replace(before, version.tag, 1))

    rivals = tuple(called(one) if one.kind == "type" else one for one in found.rivals)
    return replace(found, version=version, specialist=called(found.specialist), rivals=rivals)


def with_version(
    found: Evaluation, made: Specialist, version: Version, engine: Engine
) -> Evaluation:
    """Another version beside, on the rows that neither trained.

    Raises:
        BadInput: its base is another one, or each row was trained by one of the two.
        Missing: what it was made of has gone from the store.
    """
    other = _other(version, engine, found.version, made)
    if not other.rows.keys() & found.specialist.rows.keys():
        raise BadInput(
            f"no row was held back by both {found.specialist.name} and {other.name}",
            "They were made of other rows: compare each with its base.",
        )
    return replace(found, rivals=(*found.rivals, other))


def _remembered(engine: Engine, made: Specialist, base: Scored) -> Memory:
    """Everyday questions, asked of both as the specialist is served."""
    asked = Recall(system=made.system)
    found = [
        list(engine.do(recall.STAGE, asked, base=made.base, model=model).each())
        for model in (base, _served(made))
    ]
    return memory.memory(*found)


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
    found = _measured(version.tag, "version", engine, asked, _served(other))
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


def _with_examples(engine: Engine, made: Specialist, base: Scored) -> Measured:
    context = int(str(made.parameters.get("num_ctx", CONTEXT)))
    asked = Score(examples=EXAMPLES, room=context // 2, system=made.system)
    scores = engine.do(score.STAGE, asked, base=made.base, data=made.data, model=base)
    name = f"the base with {scores.examples} example{'' if scores.examples == 1 else 's'}"
    return measured(name, list(scores.each()), "examples")


def _measured(name: str, kind: Kind, engine: Engine, made: Specialist, model: Scored) -> Measured:
    scores = engine.do(score.STAGE, Score(), base=made.base, data=made.data, model=model)
    return measured(name, list(scores.each()), kind)


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


def _base(found: Reference, made: Specialist, engine: Engine) -> Scored:
    """The base's own file, or one that is made of its directory in the specialist's type."""
    if found.format == "gguf":
        return Scored(digest=found.digest, path=found.path)
    stored = engine.do(bare.STAGE, Bare(quantization=made.packed.quantization), base=made.base)
    return Scored(digest=stored.digest, path=stored.served.path)
