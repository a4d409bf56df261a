"""fetch: a base model as a Hugging Face directory, with the template it is trained and served by.

What leaves here is settled: 16-bit weights, a tokenizer that llama.cpp reads alike, the frozen chat
template, the token that ends an answer. Later stages look nothing up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.bases import checkpoint
from pipeline.bases.reference import Reference, refuse_if_changed
from pipeline.common.errors import BadInput
from pipeline.common.progress import Progress
from pipeline.made.artifacts import Base
from pipeline.made.stage import Stage, Where, like_before
from pipeline.stages.fetching import (
    from_gguf,
    from_huggingface,
    served_base,
    shipped,
    vocabulary,
)
from pipeline.stages.fetching.frozen import freeze
from pipeline.stages.fetching.learnt import learn
from pipeline.stages.settings import Fetch
from pipeline.tools import heap, llamacpp

STAGE = Stage(
    "fetch",
    version=4,
    settings=Fetch,
    inputs={"base": Reference},
    makes=Base,
    expected=like_before(45),
    # 2: its files held the name of the folder that the base lay in; 3: a GGUF's keys were the
    # converter's; packing takes what it needs of the base's own from the GGUF itself
    takes_over=(3, 2),
    pinned=(llamacpp.REVISION,),
)
FORMATS = {"huggingface": from_huggingface, "gguf": from_gguf}


def run(out: Path, settings: Fetch, reference: Reference, *, where: Where) -> Base:
    """Make the base that `reference` points at.

    Args:
        out: the stage's own directory; what is left of an earlier try is written over.

    Raises:
        BadInput: the base cannot be tuned and served faithfully, or it changed meanwhile.
        ToolFailed: it does not survive the way to a GGUF: the first difference.
    """
    heap.give_back()
    read = FORMATS[reference.format]
    source = read.write(out, reference, where)
    bos, eos = _named_tokens(out)
    if settings.template:
        own = bool(source.template or served_base.forced(reference))
        shipped.check(settings.template, out, reference.name, own=own, eos=eos)
    template = _template(source.template, reference, bos, eos, settings)
    (out / "chat_template.jinja").write_text(template, encoding="utf-8")
    read.write_weights(out, reference, where)
    refuse_if_changed(reference)
    read.write_outline(out, reference, where)
    where.report(Progress(0.95, 1, "comparing tokenizers"))
    words = _words(out, template)
    where.report(Progress(1, 1))
    return Base.at(
        out,
        name=reference.name,
        architecture=reference.architecture,
        parameters=reference.parameters,
        context=reference.context,
        license=reference.license or source.license,
        projectors=tuple(reference.installed.projectors) if reference.installed else (),
        **served_base.forced(reference),
        **words,
    )


def _template(own: str, reference: Reference, bos: str, eos: str, settings: Fetch) -> str:
    """The base's own; where it has none, the one that was asked for, else what Ollama serves.

    Where Ollama renders all of a family by its own code, it is that.
    """
    rendered_by, name = served_base.renders(reference), reference.name
    if settings.template:
        own = shipped.read(settings.template)
    elif rendered_by:
        with served_base.asked(rendered_by, served_base.where(reference)) as oracle:
            own = learn(oracle, name, source=rendered_by.get("template", ""))
    if not own:
        raise BadInput(
            f"the base {name} has no chat template: it was never taught to answer", shipped.WAY_OUT
        )
    return freeze(own, name, bos=bos, eos=eos, thinking=settings.thinking == "on")


def _named_tokens(out: Path) -> tuple[str, str]:
    """bos_token and eos_token as tokenizer_config.json spells them."""
    config = checkpoint.read(out, "tokenizer_config.json")
    found = [config.get(f"{name}_token") or "" for name in ("bos", "eos")]
    bos, eos = (str(t.get("content", "")) if isinstance(t, dict) else str(t) for t in found)
    return bos, eos


def _words(out: Path, template: str) -> dict[str, Any]:
    """What the vocabulary says, as llama.cpp sees it: that is what serves."""
    seen = vocabulary.Vocabulary.of(out / "vocab.gguf")
    bos_text, eos_text = seen.text(seen.bos), seen.text(seen.eos)
    with llamacpp.Model(out / "vocab.gguf") as model:
        bos = vocabulary.agreed_bos(out, model, seen)
        vocabulary.check_tokens(out, model, template, bos_text, eos_text)
        end = vocabulary.end_of_turn(template, model, seen, bos_text, eos_text)
    return {
        "bos": bos,
        "bos_text": bos_text,
        "eos_text": eos_text,
        "end_of_turn": end,
        "end_of_turn_text": seen.text(end),
        "control": seen.control,
        "nfc": vocabulary.normalises(out),
    }
