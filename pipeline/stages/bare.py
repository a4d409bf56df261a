"""bare: a base as a GGUF without any training, of its specialist's type: what it is compared with.

A base that is a GGUF already is compared as it is.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.common.errors import BadInput
from pipeline.common.progress import Progress
from pipeline.made.artifacts import Base, Packed
from pipeline.made.stage import Stage, Where, like_before
from pipeline.stages.packing import stream
from pipeline.stages.packing.target import in_order, target
from pipeline.stages.packing.weights import opened
from pipeline.stages.settings import Bare
from pipeline.tools import llamacpp, outline

STAGE = Stage(
    "bare",
    version=1,
    settings=Bare,
    inputs={"base": Base},
    makes=Packed,
    expected=like_before(10),
    pinned=(llamacpp.REVISION,),
)


def run(out: Path, settings: Bare, base: Base, *, where: Where) -> Packed:
    """Store the base's weights in one file.

    Raises:
        BadInput: the converter computes one of its tensors in a way that is not known here.
    """
    known = outline.read(base.outline)
    if known.unknown:
        raise BadInput(f"{base.name} is not compared: {known.unknown} is not stored by itself")
    scratch, file = out / "scratch", out / "model.gguf"
    scratch.mkdir(parents=True, exist_ok=True)
    stream.write(
        opened(base.weights),
        None,
        in_order(known),
        {file: target(known, base.vocab, settings.quantization, scratch)},
        threads=where.threads,
        report=where.report,
    )
    shutil.rmtree(scratch)
    where.report(Progress(1, 1))
    return Packed.at(out, quantization=settings.quantization, size=file.stat().st_size)
