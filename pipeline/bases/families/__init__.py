"""What is particular to a family of models, a file each. What a file does not say is the default.

How llama.cpp's converter renames, reorders and shifts a family's tensors is not said here: it is
learnt from the converter (stages/fetching/outlining.py).
"""

from __future__ import annotations

from pipeline.bases.families import (
    gemma2,
    gemma3,
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
    phi3.FAMILY,
    granite.FAMILY,
    smollm3.FAMILY,
)
"""Those that were seen to go through: a test takes each to a GGUF that computes the same."""


_EXPERTS = "a mixture of experts: its experts are stacked and cannot be tuned here yet"
_HYBRID = "a hybrid of attention and state: its other layers are computed in a way not undone here"
_KNOWN = {
    **dict.fromkeys(("qwen2moe", "qwen3moe", "qwen3next", "llama4", "deepseek2"), _EXPERTS),
    **dict.fromkeys(("gptoss", "gpt-oss", "granitemoe", "mixtral", "olmoe", "phimoe"), _EXPERTS),
    **dict.fromkeys(("qwen35", "qwen35moe", "granitehybrid", "mamba", "mamba2"), _HYBRID),
    **dict.fromkeys(("jamba", "nemotron_h", "lfm2", "rwkv6", "rwkv7"), _HYBRID),
    **dict.fromkeys(("bert", "nomic-bert", "t5encoder", "gemma-embedding"), "an encoder"),
    "gemma4": "Gemma 4, whose layers share keys in a way that is not undone here yet",
    "gemma3n": "Gemma 3n, whose layers have embeddings of their own",
    "mllama": "Llama 3.2 Vision, whose eyes are layers of their own",
    "mistral3": "Mistral 3, which the converter reads in another form",
}
_NEAREST = {
    "qwen": "qwen3:8b or qwen2.5:7b",
    "gemma": "gemma3:4b",
    "llama": "llama3.2:3b",
    "mllama": "llama3.2:3b",
    "mistral": "mistral:7b",
    "mixtral": "mistral:7b",
    "granite": "granite3.3:2b",
    "phi": "phi4",
}


def refusal(architecture: str) -> tuple[str, str]:
    """Why a GGUF of an architecture is not tuned, and the nearest that is.

    Args:
        architecture: its `general.architecture`, which has no family here.
    """
    why = _KNOWN.get(architecture, f"of the family {architecture or 'none'}, which is not known")
    near = next((n for start, n in _NEAREST.items() if architecture.startswith(start)), "")
    nearest = f"The nearest that goes: {near}. " if near else ""
    return why, f"{nearest}Families that go: {', '.join(in_gguf())}."


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
