"""What is particular to a family of models, a file each. What a file does not say is the default.

How llama.cpp's converter renames, reorders and shifts a family's tensors is not said here: it is
learnt from the converter (stages/fetching/outlining.py).
"""

from __future__ import annotations

from pipeline.bases.families import (
    gemma2,
    gemma3,
    gemma4,
    granite,
    llama,
    mistral,
    phi3,
    qwen2,
    qwen3,
    smollm3,
)
from pipeline.bases.families.family import Family
from pipeline.bases.families.refused import refusal as refusal

FAMILIES: tuple[Family, ...] = (
    llama.FAMILY,
    mistral.FAMILY,
    qwen2.FAMILY,
    qwen3.FAMILY,
    gemma2.FAMILY,
    gemma3.FAMILY,
    gemma4.FAMILY,
    phi3.FAMILY,
    granite.FAMILY,
    smollm3.FAMILY,
)
"""Those that were seen to go through: a test takes each to a GGUF that computes the same."""


def supported() -> list[str]:
    """Their names in a config.json."""
    return [family.architecture for family in FAMILIES]


def find(architecture: object) -> Family | None:
    """The family of a name in config.json, None if there is none."""
    return next((family for family in FAMILIES if family.architecture == architecture), None)


def of(architecture: str) -> Family:
    """The family of a base, which fetch has accepted.

    Raises:
        LookupError: there is none.
    """
    if (family := find(architecture)) is None:
        raise LookupError(f"no family {architecture}")
    return family


def in_gguf() -> list[str]:
    """Names that GGUF files give to the families that are read from one."""
    return [family.gguf.architecture for family in FAMILIES if family.gguf]


def of_gguf(architecture: str) -> Family | None:
    """The family by the `general.architecture` of a GGUF; None if it is not read from one."""
    found = (f for f in FAMILIES if f.gguf and f.gguf.architecture == architecture)
    return next(found, None)
