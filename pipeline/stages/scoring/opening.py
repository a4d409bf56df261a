"""A file that llama.cpp opens, of one that perhaps only Ollama's patched one does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pipeline.bases import families
from pipeline.bases.gguf_keys import Keys
from pipeline.bases.text_part import text_part
from pipeline.stages.packing.text_file import text_file
from pipeline.tools.gguf_layout import layouts
from pipeline.tools.gguf_parts import parts


def opened_to_score(path: Path, scratch: Path) -> AbstractContextManager[Path]:
    """The file itself, or its language model alone for a while; any part of a split one.

    Args:
        scratch: a folder for the copy.
    """
    every = parts(path)
    found = layouts(every)
    family = families.of_gguf(str(Keys(path, found).architecture))
    if family is None or family.gguf is None:  # made of a directory: plain
        return nullcontext(path)
    return text_file(every, text_part(found, family.gguf), scratch, weights=True)
