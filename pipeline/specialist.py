"""The chain: from a spec and a file of conversations to everything that a release registers."""

from __future__ import annotations

from pipeline import modelfile
from pipeline.artifacts import Specialist
from pipeline.parameters import check_answers
from pipeline.reference import resolve
from pipeline.settings import settings
from pipeline.source import Source
from pipeline.spec import Spec
from pipeline.stages import fetch, pack, prepare, tune
from pipeline.store import Store


def check(spec: Spec) -> None:
    """Refuse what a stage would refuse, before anything is started.

    Raises:
        BadInput: a base that cannot be used, a quantization that llama.cpp cannot make.
        Missing: the embedded base is not on this machine.
    """
    resolve(spec.base, spec.beside)
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
        system=spec.system,
        parameters={**spec.parameters, "num_ctx": context},
        license="\n\n".join(filter(None, [spec.license, base.license])),
    )
