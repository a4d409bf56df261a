"""What llama.cpp's converter would make of a directory, learnt from the converter."""

from __future__ import annotations

from pathlib import Path

from pipeline.tools import converter, outline
from pipeline.tools.children import module


def write_outline(
    source: Path, vocab: Path, out: Path, *, name: str, vocabulary: bool = True
) -> outline.Outline:
    """Write what `convert` would make of a directory, without its weights.

    Args:
        vocab: gets all keys and no tensor, as with the converter's --vocab-only.
        out: gets the outline.
        name: goes into the keys.
        vocabulary: put the tokenizer into the keys; a GGUF base has its own.

    Raises:
        Missing: the converter is not on this machine.
        ToolFailed: the converter's last words.
    """
    converter.script()
    with converter.called_the_same(source) as folder:
        job = [str(folder), name, str(vocab), str(out), "vocabulary" if vocabulary else ""]
        converter.run(module("pipeline.stages.fetching.outlining", *job), source, out)
    return outline.read(out)
