"""The way back: a GGUF made of the directory is the GGUF that the directory was made of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ToolFailed
from pipeline.tools.llamacpp import Model
from pipeline.tools.outline import Outline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAY_DIFFER = {
    "general.name": "given anew",
    "general.basename": "read out of the former folder's name",
    "general.finetune": "read out of the former folder's name",
    "general.organization": "read out of the former model card",
    "general.languages": "read out of the former model card",
    "general.license": "read out of the former model card; the base carries its licence",
    "general.size_label": "rounded from the number of weights, or the former folder's name",
    "general.file_type": "the quantization: now 16 bit",
    "general.quantization_version": "the quantization",
    "tokenizer.chat_template": "frozen",
}
MAY_APPEAR = {
    "attention.key_length": "was implied: width / heads",
    "attention.value_length": "was implied: width / heads",
}
"""Behind the architecture's name."""
TEXTS = (
    "The lighthouse keeper climbed the stairs every evening, trimmed the wick and wrote down "
    "the weather. Nobody ever read the book, but the sum of its pages was a kind of company.",
    "Question: How do I sharpen a kitchen knife?\nAnswer: Wet the stone, hold the blade at "
    "fifteen degrees and draw it along in long, even strokes. Ten on each side will do.",
    "def area(width: float, height: float) -> float:\n"
    '    """Return the area of a rectangle."""\n    return width * height\n\nprint(area(2, 3))\n',
)
MOST_KL = 0.01  # nats; a 4-bit file against its own weights in float32 has 0.005


def check_gguf(original: Path, vocab: Path, outline: Outline) -> None:
    """Same keys, tensor names and shapes, save what MAY_DIFFER or MAY_APPEAR.

    Args:
        vocab: the keys of the GGUF that would be made.
        outline: its tensors.

    Raises:
        ToolFailed: the first difference.
    """
    import gguf

    one = gguf.GGUFReader(original)
    keys, kept = _keys(one), _keys(gguf.GGUFReader(vocab))
    architecture = keys["general.architecture"]
    new = {f"{architecture}.{name}" for name in MAY_APPEAR} - keys.keys()
    _same("key", keys, {name: value for name, value in kept.items() if name not in new})
    shapes = {tensor.name: [*reversed(tensor.shape)] for tensor in outline.tensors}
    _same("tensor", _shapes(one), shapes)


def _keys(reader: Any) -> dict[str, Any]:
    kept = (n for n in reader.fields if not n.startswith("GGUF.") and n not in MAY_DIFFER)
    return {name: reader.fields[name].contents() for name in kept}


def _shapes(reader: Any) -> dict[str, Any]:
    return {tensor.name: [int(n) for n in tensor.shape] for tensor in reader.tensors}


def _same(what: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            raise ToolFailed(
                f"the base does not survive the way back: {what} {name} was "
                f"{str(one.get(name, 'absent'))[:60]} and is {str(other.get(name, 'absent'))[:60]}"
            )


def check_logits(folder: Path, original: Path, threads: int) -> float:
    """Mean KL divergence (nats per token) of the GGUF from the directory, computed in float32.

    Raises:
        ToolFailed: they disagree on a text.
    """
    with Model(original, weights=True) as model:
        ids = [model.tokenize(text, special=False) for text in TEXTS]
        theirs = [model.logits(tokens, threads) for tokens in ids]
    found = []
    for i, (ours, their) in enumerate(zip(_logits(folder, ids, threads), theirs, strict=True)):
        found.append(divergence(ours, their))
        if not found[i] < MOST_KL:  # not `>=`: NaN is no agreement
            raise ToolFailed(
                f"the base does not survive the way back: logits of text {i + 1} differ "
                f"by {found[i]:.4f} nats a token (at most {MOST_KL})"
            )
    return sum(found) / len(found)


def _logits(folder: Path, texts: list[list[int]], threads: int) -> Iterable[NDArray[np.float32]]:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()

    torch.set_num_threads(max(threads, 1))
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    ).eval()
    with torch.inference_mode():
        for ids in texts:
            yield model(torch.tensor([ids])).logits[0].numpy()


def divergence(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean KL(one || other) of a token in nats; both are logits, shape (tokens, vocabulary)."""
    import numpy as np

    def logs(logits: NDArray[np.float32]) -> NDArray[np.float64]:
        high = logits.astype(np.float64)
        high -= high.max(axis=1, keepdims=True)
        high -= np.log(np.exp(high).sum(axis=1, keepdims=True))
        return high

    p, q = logs(one), logs(other)
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())
