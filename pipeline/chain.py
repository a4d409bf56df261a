"""The chain: from a spec and a file of conversations to everything that a release registers."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from textwrap import shorten
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.bases import remarks as bases
from pipeline.bases.chat_template import render, trained_messages
from pipeline.bases.reference import Reference, Report, original, resolve
from pipeline.common.errors import BadInput
from pipeline.intake.markers import marker
from pipeline.intake.source import Source
from pipeline.made.artifacts import Base, Dataset, Specialist
from pipeline.made.conversations import Conversations
from pipeline.made.stage import insist
from pipeline.release import held_out, history
from pipeline.release.prompt_forms import forms
from pipeline.run.engine import Engine
from pipeline.spec import modelfile
from pipeline.spec.parameters import check_answers, doubtful
from pipeline.spec.spec import Spec
from pipeline.stages import fetch, intake, pack, prepare, tune
from pipeline.stages.fetching import served_base
from pipeline.stages.settings import Intake, settings

LEAST_ANSWER = 512  # tokens that any answer may have
LONG = 8  # times the longest trained answer is no answer any more


def check(spec: Spec, report: Report = lambda progress: None) -> None:
    """Refuse what a stage would refuse, before anything is started.

    Args:
        report: told how much of a large base is read, where it was never seen.

    Raises:
        BadInput: a base that cannot be used, and what `check_words` refuses.
        Missing: the base is not on this machine.
    """
    check_words(spec)
    resolve(spec.base, spec.beside, report)


def check_words(spec: Spec) -> None:
    """Refuse what can be refused without the base.

    Raises:
        BadInput: a quantization that llama.cpp cannot make, a marker of chat templates in SYSTEM.
    """
    if found := marker(spec.system):
        raise BadInput(
            f"SYSTEM of the Modelfile spells {found}, a marker of chat templates",
            "Remove it: the base's template writes its own.",
        )
    if spec.pack.quantization != "auto":  # the chosen ones exist; asking costs a library load
        for name in spec.pack.quantization.split(","):
            pack.check_type(name.strip().upper())


def build(spec: Spec, source: Source, engine: Engine, gpu_bytes: int | None = None) -> Specialist:
    """Every stage in order. This is the only place that knows it; `plan` runs it dry.

    Raises:
        PipelineError: what a stage raised.
    """
    reference = resolve(spec.base, spec.beside)
    rows = take_in(source, engine)
    chosen = settings(spec, rows.statistics, reference, gpu_bytes)
    base = engine.do(fetch.STAGE, chosen.fetch, base=reference)
    before = held_out.not_tested(history.history(spec.name), rows, engine.store)
    split = chosen.prepare.model_copy(update={"not_tested": before})
    data = engine.do(prepare.STAGE, split, base=base, data=rows)
    engine.check(lambda: check_parameters(spec, rows, base, data))
    if not chosen.fetch.template and served_base.renders(reference):
        engine.check(lambda: check_rendered(engine, reference, base, data, chosen.prepare.system))
    adapter = engine.do(tune.STAGE, chosen.tune, base=base, data=data)
    packed = engine.do(
        pack.STAGE,
        chosen.pack,
        base=base,
        adapter=adapter,
        data=data,
        original=original(reference),
    )
    insist(base, data, adapter, packed)
    return Specialist(
        name=spec.name,
        base=base,
        data=data,
        adapter=adapter,
        packed=packed,
        rows=rows,
        system=served_system(spec, rows, base),
        parameters=served_parameters(spec, rows, base, data),
        license="\n\n".join(filter(None, [spec.license, base.license])),
        stages=tuple(engine.touched),
        origin=spec.base,
        origin_digest=reference.digest,
        origin_weights=reference.weights,
    )


def take_in(source: Source, engine: Engine) -> Conversations:
    """The user's rows: checked, and in the store.

    Raises:
        BadInput: the file, or some of its rows.
    """
    return engine.do(intake.STAGE, Intake(), source=source)


def served_parameters(spec: Spec, rows: Conversations, base: Base, data: Dataset) -> dict[str, Any]:
    """The Modelfile's PARAMETERs, with room for every row and an end for every answer.

    A sampled answer may never end by itself, and then `ollama run` never comes back.
    """
    context = context_length(spec, rows, base, data)
    most = min(max(LEAST_ANSWER, LONG * data.longest_answer), context)
    return {"num_predict": most, **spec.parameters, "num_ctx": context}


class Compared(BaseModel):
    """Prompts that were compared with those of the base's server: digests of what they follow."""

    model_config = ConfigDict(frozen=True)
    base: str
    data: str
    system: str


def check_rendered(
    engine: Engine, reference: Reference, base: Base, data: Dataset, system: str
) -> None:
    """Refuse, before anything is trained, a row that the base's server renders otherwise.

    Rows that were compared before are not again: a run in which all is made asks nothing.

    Raises:
        BadInput: the first difference.
    """
    asked = Compared(base=base.digest, data=data.digest, system=system)
    if not engine.store.noted(asked):
        served_base.check_rendered(reference, base, data, system)
        engine.store.note(asked)


def check_parameters(spec: Spec, rows: Conversations, base: Base, data: Dataset) -> None:
    """Refuse, before anything is trained, PARAMETERs under which answers would be cut.

    Raises:
        BadInput: with the row or the length that does not fit.
    """
    check_answers(spec.parameters, data.longest_answer, data.answers)
    context_length(spec, rows, base, data)


def context_length(spec: Spec, rows: Conversations, base: Base, data: Dataset) -> int:
    """The num_ctx to serve with: room for every row, and for what the proof asks.

    Raises:
        BadInput: the Modelfile's is too short for one of them, or too long for the base.
    """
    value = spec.parameters.get("num_ctx")
    asked = value if isinstance(value, int) else None
    form = longest_form(base, served_system(spec, rows, base))
    found = modelfile.context_length(max(data.longest, form), base.context, None)
    if asked is None:
        return found
    if data.longest <= asked < form:
        raise BadInput(
            f"num_ctx {asked} is too short for a conversation of a few words: with the system"
            f" message, the longest that the proof asks has {form} tokens",
            f"Set at least {form}, or leave num_ctx out.",
        )
    return modelfile.context_length(data.longest, base.context, asked)


@lru_cache(maxsize=4)
def longest_form(base: Base, system: str) -> int:
    """Tokens of the longest built-in form of the proof, with a few to answer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base.path / "tokenizer.json"))
    texts = (
        render(base, trained_messages(messages, system), generate=True)
        for messages in forms(system).values()
    )
    return max(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts) + 4


def served_system(spec: Spec, rows: Conversations, base: Base) -> str:
    """SYSTEM: the Modelfile's, else the message that every row has, as the rows were trained."""
    shared = rows.statistics.shared_system
    if spec.system or not base.nfc:
        return spec.system or shared
    return unicodedata.normalize("NFC", shared)


def remarks(spec: Spec, rows: Conversations) -> list[str]:
    """What a user should know before anything is trained."""
    reference = resolve(spec.base, spec.beside)
    base = _another_base(spec, reference) + bases.remarks(reference)
    return base + _system_messages(spec, rows) + doubtful(spec.parameters)


def _another_base(spec: Spec, reference: Reference) -> list[str]:
    """That a name or path holds another model than the newest version was made from."""
    known = history.history(spec.name)
    last = next((v for v in reversed(known.there) if v.origin), None) if known else None
    if last is None or last.origin != spec.base or last.origin_digest == reference.digest:
        return []
    return [
        f"{spec.base} is another model now than {spec.name} {last.label} was made from: it is"
        " trained anew"
    ]


def _system_messages(spec: Spec, rows: Conversations) -> list[str]:
    """What is trained of the rows' system messages, and what is served."""
    known = rows.statistics
    own = known.rows - known.without_system
    kinds = f"{known.systems} different ones" if known.systems > 1 else "one and the same"
    if not own or (spec.system and spec.system == known.shared_system):
        return []
    if known.shared_system and not spec.system:
        text = shorten(known.shared_system, 60, placeholder=" …")
        return [f"all rows share one system message, it is served as SYSTEM: “{text}”"]
    if not spec.system:
        who = (
            f"{own} of {known.rows} rows have a system message ({kinds})"
            if known.without_system
            else f"the rows have {known.systems} different system messages"
        )
        return [
            f"{who}, the Modelfile has no SYSTEM: who asks without one gets the base's own; write"
            " SYSTEM into the Modelfile to serve one"
        ]
    if not known.without_system:
        return [
            f"every row has a system message of its own ({kinds}): SYSTEM of the Modelfile is"
            " served, and no row was trained with it"
        ]
    return [f"{own} of {known.rows} rows keep a system message of their own, the others get SYSTEM"]
