"""The embedded base: its GGUF as a Hugging Face directory, and the check of the way back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.bases.reference import Reference
from pipeline.common.progress import Progress
from pipeline.made.stage import Where
from pipeline.stages.fetching import agree, gguf_tokenizer, gguf_weights, outlines
from pipeline.stages.fetching.source import Source


def write(out: Path, reference: Reference, where: Where) -> Source:
    """Write config and tokenizer of the embedded base to `out`."""
    reader = _reader(reference.path)
    gguf_weights.write_config(reader, out)
    gguf_tokenizer.write_tokenizer(reader, out)
    found = [reader.get_field(key) for key in ("tokenizer.chat_template", "general.license")]
    template, license = (field.contents() if field else "" for field in found)
    return Source(template, license)


def write_weights(out: Path, reference: Reference, where: Where) -> None:
    """Write its weights (bf16) to `out`."""
    gguf_weights.write_weights(
        _reader(reference.path),
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
        found = outlines.write_outline(out, vocab, out / "outline.json", name=reference.name)
        agree.check_gguf(reference.path, vocab, found)
        logits.result()
