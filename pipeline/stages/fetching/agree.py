"""The way back, certified for each base before anything is trained.

    check_tensors   the converter makes of the directory the tensors that the GGUF has
    check_keys      … and the hyperparameters
    check_logits    the directory computes what llama.cpp computes of the GGUF

The fourth, that both tokenize alike, is `vocabulary.check_tokens`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bases.families.family import Gguf
from pipeline.bases.gguf_keys import Keys
from pipeline.bases.text_part import TextPart
from pipeline.common.errors import ToolFailed
from pipeline.common.values import read_json
from pipeline.stages.packing.brought import brought, waiting
from pipeline.stages.packing.empty import empty
from pipeline.stages.packing.merged import Merged
from pipeline.stages.packing.weights import opened
from pipeline.tools.llamacpp import Model
from pipeline.tools.outline import Outline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS = (
    "The lighthouse keeper climbed the stairs every evening, trimmed the wick and wrote down "
    "the weather. Nobody ever read the book, but the sum of its pages was a kind of company.",
    "Question: How do I sharpen a kitchen knife?\nAnswer: Wet the stone, hold the blade at "
    "fifteen degrees and draw it along in long, even strokes. Ten on each side will do.",
    "def area(width: float, height: float) -> float:\n"
    '    """Return the area of a rectangle."""\n    return width * height\n\nprint(area(2, 3))\n',
)
WINDOW = 16  # tokens of a sliding window while logits are compared: the texts are longer
MOST_KL = 0.01  # nats; a 4-bit file against its own weights in float32 has 0.005
NEAR = 1e-6  # of a number that is written in 32 bits
_WINDOW = "attention.sliding_window"
_WAY_OUT = "Take another build of this model: trained would not be what is served."


def check_tensors(part: TextPart, outline: Outline, key: Keys) -> None:
    """The outline has the tensors of the GGUF, both ways: names, shapes, constants.

    Raises:
        ToolFailed: the first difference.
    """
    if outline.unknown:
        raise _lost(f"the converter computes {outline.unknown} in a way that is not undone here")
    theirs = {name: (*reversed(place.shape),) for name, place in part.tensors.items()}
    ours = {tensor.name: tensor.shape for tensor in outline.tensors}
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            was, now = theirs.get(name, "absent"), ours.get(name, "absent")
            raise _lost(f"tensor {name} is {was} in the file, {now} by its keys")
    for tensor in outline.tensors:
        if tensor.source is None and not _near(key.numbers(tensor.name), list(tensor.values)):
            raise _lost(f"{tensor.name} holds other numbers than its keys make")


def check_keys(key: Keys, made: Keys, known: Gguf) -> None:
    """The converter's hyperparameters are those of the GGUF.

    Args:
        key: of the GGUF, in llama.cpp's form.
        made: what the converter writes of the directory.

    Raises:
        ToolFailed: the first difference.
    """
    implied = _implied(key)
    for name in sorted({*key.names(), *made.names()} - known.silent.keys()):
        was, now = (_single(k(name, implied.get(name))) for k in (key, made))
        if not _near(was, now):
            raise _lost(
                f"{key.architecture}.{name} is {_shown(was)} in the file, {_shown(now)} when it is"
                " read and written again"
            )


def _implied(key: Keys) -> dict[str, Any]:
    """What llama.cpp takes where a key is absent (llama-model.cpp, load_hparams)."""
    width, heads = key("embedding_length"), _single(key("attention.head_count"))
    head = key("attention.key_length", width // heads if isinstance(heads, int) else None)
    rows = key.shape("token_embd.weight")
    return {
        "attention.head_count_kv": heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.dimension_count": head,
        "rope.freq_base": 10000.0,
        "rope.scaling.type": "none",
        "vocab_size": rows[0] if rows else None,
    }


def _single(value: Any) -> Any:
    """A list of one and the same number is that number."""
    same = isinstance(value, list) and value and all(item == value[0] for item in value)
    return value[0] if same else value


def _near(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_near, one, other))
    numbers = [isinstance(v, int | float) and not isinstance(v, bool) for v in (one, other)]
    if all(numbers):
        return math.isclose(one, other, rel_tol=NEAR)
    return bool(one == other)


def _shown(value: Any) -> str:
    return "absent" if value is None else str(value)[:60]


def _lost(what: str) -> ToolFailed:
    return ToolFailed(f"the base does not survive the way back: {what}", _WAY_OUT)


def check_logits(folder: Path, plain: Path, key: Keys, threads: int) -> float:
    """Mean KL divergence (nats per token) of the GGUF from the directory, computed in float32.

    A sliding window is set to 16 tokens on both sides: the texts are then longer than it. That its
    real length is the same is what `check_keys` sees. No whole model is held on our side.

    Args:
        plain: the GGUF, such as llama.cpp opens it.

    Raises:
        ToolFailed: they disagree on a text.
    """
    window = WINDOW if read_json(folder / "config.json").get("sliding_window") else None
    changed = {f"{key.architecture}.{_WINDOW}": window} if window else {}
    with Model(plain, weights=True, changed=changed) as model:
        ids = [model.tokenize(text, special=False, bos=True) for text in TEXTS]
        theirs = [model.logits(tokens, threads) for tokens in ids]
    found = []
    for i, (ours, their) in enumerate(
        zip(_logits(folder, ids, threads, window), theirs, strict=True)
    ):
        found.append(divergence(ours, their))
        if not found[i] < MOST_KL:  # not `>=`: NaN is no agreement
            raise _lost(
                f"logits of text {i + 1} differ by {found[i]:.4f} nats a token (at most {MOST_KL})"
            )
    return sum(found) / len(found)


def _logits(
    folder: Path, texts: list[list[int]], threads: int, window: int | None
) -> Iterator[NDArray[np.float32]]:
    """Logits of each text. All are computed at once: the weights are read once."""
    import torch

    torch.set_num_threads(max(threads, 1))
    more = {"sliding_window": window} if window else {}
    model = empty(folder, **more).eval()
    longest = max(map(len, texts))
    # what is put behind a text changes nothing before it
    ids = torch.tensor([[*text, *text[:1] * (longest - len(text))] for text in texts])
    with opened(sorted(folder.glob("*.safetensors"))) as weights:
        read = partial(Merged(weights, {}).whole, kind="F32")
        with brought(waiting(model), read), torch.inference_mode():
            logits = model(ids, use_cache=False).logits
    for row, text in zip(logits, texts, strict=True):
        yield row[: len(text)].numpy()


def divergence(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean KL(one || other) of a token in nats; both are logits, shape (tokens, vocabulary)."""
    import numpy as np

    found = []
    for p, q in zip(one, other, strict=True):  # a row at a time: vocabularies are large
        left, right = _logs(p), _logs(q)
        found.append(float((np.exp(left) * (left - right)).sum()))
    return sum(found) / len(found)


def _logs(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    import numpy as np

    high = logits.astype(np.float64)
    high -= high.max()
    high -= np.log(np.exp(high).sum())
    return high
