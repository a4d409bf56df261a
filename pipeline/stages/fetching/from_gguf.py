"""A GGUF file as a base: written as a Hugging Face directory, and the check of the way back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.bases import families
from pipeline.bases.reference import Reference
from pipeline.common.progress import Progress
from pipeline.made.stage import Where
from pipeline.stages.fetching import agree, gguf_tokenizer, gguf_weights, outlines
from pipeline.stages.fetching.source import Source


def write(out: Path, reference: Reference, where: Where) -> Source:
    """Write its config and tokenizer to `out`.

    Raises:
        BadInput: a key that is missing, or a vocabulary that cannot be rebuilt.
    """
    reader = _reader(reference.path)
    gguf_weights.write_config(reader, families.of(reference.architecture), out)
    gguf_tokenizer.write_tokenizer(reader, out)
    found = [reader.get_field(key) for key in ("tokenizer.chat_template", "general.license")]
    template, license = (field.contents() if field else "" for field in found)
    return Source(template, license)


def write_weights(out: Path, reference: Reference, where: Where) -> None:
    """Write its weights (bf16) to `out`.

    Raises:
        BadInput: a tensor that the family does not have, or a weight that is not finite.
    """
    gguf_weights.write_weights(
        _reader(reference.path),
        families.of(reference.architecture),
        out,
        lambda done, of: where.report(Progress(0.3 * done / of, 1, "weights to 16 bit")),
    )


@lru_cache(maxsize=1)
def _reader(path: Path) -> Any:
    """Read once: its lists of tokens take two seconds."""
    import gguf

    return gguf.GGUFReader(path)


def write_outline(out: Path, reference: Reference, where: Where) -> None:
    """Let the converter outline the directory, and compare with the original.

    Raises:
        ToolFailed: the way back leads elsewhere: the first difference.
    """
    where.report(Progress(0.3, 1, "checking the way back"))
    with ThreadPoolExecutor(1) as beside:  # half of both is importing: some seconds less
        logits = beside.submit(agree.check_logits, out, reference.path, where.threads)
        vocab = out / "vocab.gguf"
        found = outlines.write_outline(out, vocab, out / "outline.json", name=reference.short)
        agree.check_gguf(reference.path, vocab, found)
        logits.result()
