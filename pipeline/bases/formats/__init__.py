"""How a base is read, wherever it comes from: a Hugging Face directory, or a GGUF file.

Read is only what is small: facts and names of files. Its weights are `stages/fetch`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.bases.formats import gguf, huggingface
from pipeline.bases.located import Facts


@dataclass(frozen=True)
class Format:
    """What is asked of a directory, or of a GGUF file."""

    files: Callable[[Path], list[str]]
    """Names of the files that decide what the base is."""
    facts: Callable[[Path], Facts]
    """Facts; whatever cannot be tuned and served is refused (BadInput)."""


FORMATS: Mapping[str, Format] = {
    "huggingface": Format(huggingface.files, huggingface.facts),
    "gguf": Format(gguf.files, gguf.facts),
}
