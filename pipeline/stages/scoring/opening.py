"""A GGUF file opened to be asked how likely it finds texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from pipeline.bases import families
from pipeline.bases.gguf_keys import Keys
from pipeline.bases.text_part import text_part
from pipeline.made.artifacts import Scored
from pipeline.stages.packing.text_file import text_file
from pipeline.tools.gguf_layout import layouts
from pipeline.tools.gguf_parts import parts
from pipeline.tools.llamacpp import Model
from pipeline.tools.teacher import Teacher, teacher


@contextmanager
def opened_to_ask(
    model: Scored, scratch: Path, longest: int, threads: int
) -> Iterator[tuple[Model, Teacher]]:
    """The model and what reads texts of up to so many tokens with it, until the block ends.

    Args:
        scratch: a folder for a copy, where only Ollama's patched llama.cpp opens the file itself.

    Raises:
        ToolFailed: llama.cpp cannot open it.
    """
    with (
        _plain(model.path, scratch) as file,
        Model(file, weights=True) as opened,
        teacher(opened, longest, threads) as reader,
    ):
        yield opened, reader


def _plain(path: Path, scratch: Path) -> AbstractContextManager[Path]:
    """The file itself, or its language model alone for a while; any part of a split one."""
    every = parts(path)
    found = layouts(every)
    family = families.of_gguf(str(Keys(path, found).architecture))
    if family is None or family.gguf is None:  # made of a directory: plain
        return nullcontext(path)
    return text_file(every, text_part(found, family.gguf), scratch, weights=True)
