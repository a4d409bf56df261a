"""A specialist over a base's GGUF: its bytes, and anew the matrices that training touched.

Keys, tensors, types and their order are the base's own. What was touched is merged in float32 from
the dequantized base and goes to the wanted type. A quantized base is not written back onto its own
grid unasked: changes smaller than half a step would round away (DECISIONS.md, "a quantized base").
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pipeline.bases import families
from pipeline.bases.gguf_keys import TEMPLATE
from pipeline.bases.reference import Original
from pipeline.bases.text_part import DROPPED, TextPart, text_part, without
from pipeline.common.errors import BadInput
from pipeline.made.artifacts import Base
from pipeline.stages.packing.gguf_weights import GgufWeights, opened_gguf
from pipeline.stages.packing.target import Target, made, planned
from pipeline.tools.gguf_header import Entry
from pipeline.tools.gguf_layout import Layout, Place, layout, layouts
from pipeline.tools.gguf_values import text
from pipeline.tools.outline import Outline, Tensor

FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class OverGguf:
    """A base's GGUF, and what is known of its tensors."""

    paths: list[Path]
    found: Layout
    part: TextPart
    outline: Outline

    @property
    def tensors(self) -> list[Tensor]:
        """All of the file, in its order; what is no language model has no source.

        That has rows and columns, however many dimensions: its bytes are copied.
        """
        known = {tensor.name: tensor for tensor in self.outline.tensors}
        return [
            known.get(name) or Tensor(name=name, shape=_flat(place), kind=place.kind, source=None)
            for name, place in self.found.tensors.items()
        ]

    def opened(self) -> AbstractContextManager[GgufWeights]:
        """Its weights by the directory's names, and its bytes."""
        return opened_gguf(self.paths, self.found.tensors, self.outline.tensors)

    def target(
        self, quantization: str, touched: Collection[str], template: str, scratch: Path
    ) -> Target:
        """The file of one quantization.

        Args:
            quantization: of the touched matrices: llama.cpp chooses a type for each by it.
            touched: the directory's names of the tensors that training touched.
            template: the frozen chat template.

        Raises:
            ToolFailed: llama.cpp cannot quantize it so.
        """
        kinds = planned(self.outline, self.part.keys, quantization, scratch)
        anew = {t.name for t in self.outline.tensors if t.source in touched}
        places = self.found.tensors
        entries = [
            Entry(name, kinds[name] if name in anew else place.kind, (*reversed(place.shape),))
            for name, place in places.items()
        ]
        copied = frozenset(places.keys() - anew)
        # eyes inside: only Ollama's llama.cpp opens it, and it wants the keys that it wrote
        keys = without(self.found.keys, DROPPED) if self.part.carried else self.part.keys
        floats = quantization if quantization in FLOATS else "F32"
        return made(quantization, floats, {**keys, TEMPLATE: text(template)}, entries, copied)

    def own_grid(self, file: Path, touched: Collection[str]) -> list[str]:
        """Touched tensors that a file holds in the very type that they came in, which rounds."""
        ours, theirs = layout(file).tensors, self.part.tensors
        return [
            tensor.name
            for tensor in self.outline.tensors
            if tensor.source in touched
            and ours[tensor.name].kind == theirs[tensor.name].kind
            and ours[tensor.name].kind not in FLOATS
        ]


def _flat(place: Place) -> tuple[int, ...]:
    return (place.rows, place.shape[0]) if len(place.shape) > 1 else place.shape


def over_gguf(original: Original, base: Base, outline: Outline) -> OverGguf:
    """Read the front of a base's GGUF.

    Raises:
        Missing: it has gone.
        BadInput: it changed since it was found.
    """
    original.check()
    found = layouts(original.paths)
    family = families.find(base.architecture)
    if family is None or family.gguf is None:
        raise BadInput(f"{original.path}: {base.name} is of no family that is packed")
    return OverGguf(original.paths, found, text_part(found, family.gguf), outline)
