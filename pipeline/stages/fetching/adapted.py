"""The LoRA adapter of a base that is merged on request: what it changes, as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.bases import checkpoint, own_template
from pipeline.bases.reference import Reference
from pipeline.common.errors import BadInput
from pipeline.made.stage import Where
from pipeline.stages.fetching import vocabulary
from pipeline.stages.packing.adapter import Lora, opened_adapter
from pipeline.stages.packing.merged import Merged
from pipeline.stages.packing.weights import Weights, opened


@contextmanager
def merged(reference: Reference) -> Iterator[Merged | None]:
    """Its base with its adapter merged in; None where there is none.

    What is merged is computed in float32 and rounded once to bf16, as PEFT's `merge_and_unload`
    would but for its intermediate rounding.

    Raises:
        BadInput: the adapter is no plain LoRA, or not one of this base.
        ToolFailed: it changes nothing.
    """
    if reference.adapter is None:
        yield None
        return
    with _both(reference.path, reference.adapter) as (weights, loras):
        found = Merged(weights, loras)
        yield found
        found.check_changed()


def check(reference: Reference) -> None:
    """Refuse an adapter that cannot be merged, before the base's weights are read.

    Raises:
        BadInput: as `merged` says, or its tokenizer is not the base's.
    """
    if reference.adapter is None:
        return
    folder = reference.path
    with _both(folder, reference.adapter):
        pass
    own = reference.adapter / "tokenizer.json"
    if own.is_file() and _tokens(own) != _tokens(folder / "tokenizer.json"):
        raise BadInput(
            f"the adapter in {reference.adapter} has another tokenizer than {folder}",
            "It was trained on another base, or with tokens that this one lacks: name its own.",
        )


@contextmanager
def _both(base: Path, adapter: Path) -> Iterator[tuple[Weights, dict[str, Lora]]]:
    files = [base / name for name in checkpoint.weight_files(base)]
    with opened(files) as weights, opened_adapter(adapter, weights) as loras:
        yield weights, loras


def template(reference: Reference, where: Where) -> str:
    """The chat template that the adapter was trained with: its own where it has one."""
    own = own_template.read(reference.path)
    if reference.adapter is None:
        return own
    brought = own_template.read(reference.adapter)
    if brought and brought != own:
        where.say(f"the chat template of {reference.adapter.name} is taken, not that of its base")
    return brought or own


def _tokens(file: Path) -> dict[str, int]:
    tokenizer: Any = vocabulary.opened(file.parent)
    return dict(tokenizer.get_vocab(with_added_tokens=True))
