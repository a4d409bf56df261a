"""From what was measured of a version to what a page shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pipeline.common.words import duration, size
from pipeline.evaluation.compare import Comparison
from pipeline.evaluation.memory import Drift, Memory
from pipeline.evaluation.page.order import in_order
from pipeline.evaluation.page.report import Curve, Fact, Figure, Kind, Report, Rung
from pipeline.evaluation.page.rows import Answered, held_out
from pipeline.evaluation.page.ruling import ruling
from pipeline.evaluation.page.text import number, signed
from pipeline.evaluation.rivals import Evaluation
from pipeline.made.artifacts import Specialist
from pipeline.made.conversations import Conversations
from pipeline.release.version import Version

FIGURES = 3
KINDS: dict[str, Kind] = {"better": "good", "worse": "bad", "open": "open"}


def gather(
    found: Evaluation,
    made: Specialist,
    *,
    answers: Iterable[Answered] = (),
    remarks: Mapping[str, tuple[str, ...]] | None = None,
    ladder: Sequence[Rung] = (),
    curves: Sequence[Curve] = (),
) -> Report:
    """All that is known of a version.

    Args:
        made: what the version was made of: its rows and their places.
        answers: of the models to held-out rows, where they were asked.
        remarks: on rows, by their names.
        ladder: the types that were measured.
        curves: losses of the training.
    """
    own = found.answers
    if own and not answers:
        answers = [replace(one.answer, model=found.specialist.name) for one in own.judged]
        remarks = own.remarks
    return Report(
        tag=found.version.tag,
        when=found.version.when or "",
        ruling=ruling(found),
        figures=figures(found),
        specialist=found.specialist,
        rivals=found.rivals,
        comparisons=in_order(found.comparisons),
        memory=found.memory,
        drift=found.drift,
        rows=held_out(made, found, answers, remarks),
        ladder=tuple(ladder),
        curves=tuple(curves),
        data=_data(made),
        provenance=_provenance(found.version, made),
        settings=_settings(found.version),
        proof=found.version.proof.summary if found.version.proof else "",
    )


def figures(found: Evaluation) -> tuple[Figure, ...]:
    """The base, the base with examples, another version; what was forgotten fills up."""

    some = [_compared(one) for one in in_order(found.comparisons) if one.kind != "type"]
    some += [_remembered(found.memory)] if found.memory else []
    some += [_drifted(found.drift)] if found.drift else []
    return tuple(some[:FIGURES])


def _compared(found: Comparison) -> Figure:
    between = "too few rows for an interval"
    if found.interval:
        low, high = found.interval.low, found.interval.high
        between = f"{signed(low)} to {signed(high)}"
    return Figure(
        label=f"against {found.rival}",
        value=signed(found.less),
        unit="nats per token gained" if found.less >= 0 else "nats per token lost",
        between=between,
        note=f"better on {found.better} of {found.rows} rows",
        kind=KINDS[found.verdict],
    )


def _remembered(found: Memory) -> Figure:
    points = [signed(100 * x, 0) for x in (found.more.value, found.more.low, found.more.high)]
    return Figure(
        label="everyday questions",
        value=points[0],
        unit="points against the base",
        between=f"{points[1]} to {points[2]}",
        note=f"{found.specialist} of {found.questions} right, the base {found.base}",
        kind="bad" if found.forgot else "good" if found.more.above else "open",
    )


def _drifted(found: Drift) -> Figure:
    return Figure(
        label="away from the base, off its subject",
        value=number(found.kl.value),
        unit="nats per token",
        between=f"{number(found.kl.low)} to {number(found.kl.high)}",
        note=f"the base's likeliest word at {found.same:.0%}",
        kind="bad" if found.far else "good",
    )


def _data(made: Specialist) -> tuple[Fact, ...]:
    data, rows = made.data, made.rows if isinstance(made.rows, Conversations) else None
    parts = f"{data.train:,} to train, {data.validation:,} to stop in time, {data.test:,} to test"
    facts = [Fact("File", rows.file, private=True)] if rows else []
    facts += [Fact("Rows", f"{data.rows:,}: {parts}")]
    facts += [Fact("Tokens", f"{data.tokens:,} to train, {data.longest:,} in the longest row")]
    if rows:
        known = rows.statistics
        facts += [Fact("Answers", f"{known.answers:,}, of which {known.context:,} are not learned")]
        facts += [Fact("Open ends", f"{known.open_ends:,} rows end in a question")]
    facts += [Fact("Longest answer", f"{data.longest_answer:,} tokens")]
    return tuple(facts)


def _provenance(version: Version, made: Specialist) -> tuple[Fact, ...]:
    tools = ", ".join(f"{name} {number_}" for name, number_ in version.versions.items())
    parameters = json.dumps(version.parameters or {}, ensure_ascii=False)
    pace = f"{duration(made.adapter.seconds)}, {made.adapter.tokens_per_second:,.0f} tokens/s"
    facts = [
        Fact("Base", f"{made.base.name}, {made.base.parameters:,} weights"),
        Fact("FROM", version.origin, private=True),
        Fact("Digest of FROM", version.origin_digest),
        Fact("Licence of the base", made.base.license.partition("\n")[0]),
        Fact("Manifest in Ollama", version.manifest),
        *(Fact(f"Digest of the {what}", digest) for what, digest in version.digests.items()),
        Fact("Type", f"{version.quantization}, {size(version.size or 0)}"),
        Fact("SYSTEM", version.system or "", private=True),
        Fact("PARAMETERs", parameters),
        Fact("Training", f"{pace}, {made.adapter.epochs:g} epochs, {made.adapter.steps:,} steps"),
        Fact("Tools", tools),
    ]
    if version.proof:
        facts += [Fact("The proof took", duration(version.proof.seconds))]
    return tuple(fact for fact in facts if fact.value)


def _settings(version: Version) -> tuple[Fact, ...]:
    """The words of SYSTEM are the company's, wherever they stand."""
    return tuple(
        Fact(f"{stage}.{key}", json.dumps(value, ensure_ascii=False), private=key == "system")
        for stage, values in version.settings.items()
        for key, value in values.items()
    )
