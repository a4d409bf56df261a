"""The chain: from a spec and a file of conversations to everything that a release registers."""

from __future__ import annotations

import unicodedata
from textwrap import shorten

from pipeline import modelfile
from pipeline.artifacts import Base, Specialist
from pipeline.errors import BadInput
from pipeline.markers import marker
from pipeline.parameters import check_answers
from pipeline.reference import Report, resolve
from pipeline.settings import settings
from pipeline.source import Source
from pipeline.spec import Spec
from pipeline.stages import fetch, pack, prepare, tune
from pipeline.store import Store


def check(spec: Spec, report: Report = lambda progress: None) -> None:
    """Refuse what a stage would refuse, before anything is started.

    Args:
        report: told how much of a large base is read, where it was never seen.

    Raises:
        BadInput: a base that cannot be used, a quantization that llama.cpp cannot make, a marker of
            chat templates in SYSTEM.
        Missing: the embedded base is not on this machine.
    """
    if found := marker(spec.system):
        raise BadInput(
            f"SYSTEM of the Modelfile spells {found}, a marker of chat templates",
            "Remove it: the base's template writes its own.",
        )
    resolve(spec.base, spec.beside, report)
    if spec.pack.quantization != "auto":  # the chosen ones exist; asking costs a library load
        for name in spec.pack.quantization.split(","):
            pack.check_type(name.strip().upper())


def build(spec: Spec, source: Source, store: Store, gpu_bytes: int | None = None) -> Specialist:
    """Every stage in order; what was made before is not made again.

    Raises:
        PipelineError: what a stage raised.
    """
    reference = resolve(spec.base, spec.beside)
    chosen = settings(spec, source.statistics, reference, gpu_bytes)
    base = store.do(fetch.STAGE, chosen.fetch, reference)
    data = store.do(prepare.STAGE, chosen.prepare, base, source)
    check_answers(spec.parameters, data.longest_answer, data.answers)
    asked = spec.parameters.get("num_ctx")
    context = modelfile.context_length(
        data.longest, base.context, asked if isinstance(asked, int) else None
    )
    adapter = store.do(tune.STAGE, chosen.tune, base, data)
    gguf = store.do(pack.STAGE, chosen.pack, base, adapter, data)
    return Specialist(
        name=spec.name,
        base=base,
        data=data,
        adapter=adapter,
        gguf=gguf,
        system=served_system(spec, source, base),
        parameters={**spec.parameters, "num_ctx": context},
        license="\n\n".join(filter(None, [spec.license, base.license])),
    )


def served_system(spec: Spec, source: Source, base: Base) -> str:
    """SYSTEM: the Modelfile's, else the message that every row has, as the rows were trained."""
    shared = source.statistics.shared_system
    if spec.system or not base.nfc:
        return spec.system or shared
    return unicodedata.normalize("NFC", shared)


def remarks(spec: Spec, source: Source) -> list[str]:
    """What a user should know of the rows' system messages: what is trained and what is served."""
    known = source.statistics
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
