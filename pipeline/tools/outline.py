"""What llama.cpp's converter makes of a Hugging Face directory, learnt without reading a weight.

The converter is run (outlining.py) on tensors that hold the numbers of their own rows. Where what
comes out are row numbers again, its work on a tensor is known: another name, rows in another order,
a constant added. So names, shapes, types and order are the converter's own, for every family that
it knows; a tensor that it computes otherwise is told from those, and named.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Tensor(BaseModel):
    """A tensor of the GGUF and what it is made of."""

    model_config = ConfigDict(frozen=True)

    name: str
    """In the GGUF: `blk.0.attn_q.weight`."""
    shape: tuple[int, ...]
    """Rows, columns; a vector has one length."""
    kind: str
    """ggml's name of the type that the converter stores; F16 stands for its 16-bit type."""
    source: str | None
    """In the directory: `model.layers.0.self_attn.q_proj.weight`; None for a constant."""
    order: tuple[int, ...] = ()
    """Which rows of a block become its rows, one block after the other; () as they are."""
    added: float = 0.0
    """To every weight."""
    values: tuple[float, ...] = ()
    """Of a constant."""


class Outline(BaseModel):
    """All tensors in the converter's order."""

    model_config = ConfigDict(frozen=True)

    tensors: tuple[Tensor, ...]
    unknown: str
    """The first tensor that the converter computes in another way; '' if there is none."""


def read(path: Path) -> Outline:
    """The outline in a JSON file."""
    return Outline.model_validate_json(path.read_bytes())
