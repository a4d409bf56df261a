"""What the front of a GGUF file says of a base."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from pipeline.bases import families
from pipeline.bases.gguf_keys import TEMPLATE, Keys
from pipeline.bases.located import Facts
from pipeline.bases.own_template import SWITCH
from pipeline.bases.text_part import CARRIED
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.common.foreign import shown
from pipeline.tools.gguf_layout import Layout, layouts
from pipeline.tools.gguf_parts import parts
from pipeline.tools.gguf_values import decoded

KINDS = {
    "adapter": "a LoRA adapter, not a whole model",
    "mmproj": "a projector alone: eyes or ears without a language model",
    "imatrix": "an importance matrix, not a model",
    "vocab": "a vocabulary without weights",
}
"""What a GGUF may be beside a model (general.type; llama.cpp's gguf-py/gguf/constants.py)."""


def files(path: Path) -> list[str]:
    """The file itself, or all that it is split into.

    Raises:
        BadInput: a part is missing.
    """
    return [part.name for part in parts(path)]


def facts(path: Path) -> Facts:
    """What is known without the weights.

    Raises:
        BadInput: no GGUF, a key that is missing, or a model that is not tuned from a GGUF: why.
    """
    try:
        found = layouts(parts(path))
    except ToolFailed as error:
        raise BadInput(error.what, "Get the file again.") from error
    _check_kind(path, found)
    key = Keys(path, found)
    _check_use(path, key)
    family = families.of_gguf(key.architecture)
    if family is None:
        raise BadInput(
            f"{path}: a GGUF of the family {shown(key.architecture) or 'none'} is not supported",
            families.refusal(key.architecture) or f"Supported: {', '.join(families.in_gguf())}.",
        )
    if experts := key("expert_count", 0):
        raise BadInput(
            f"{path}: a mixture of {experts} experts is not tuned here",
            f"Take a dense model: {', '.join(families.in_gguf())}.",
        )
    tensors = {n: p for n, p in found.tensors.items() if not n.startswith(CARRIED)}
    context = key("context_length")
    if not isinstance(context, int) or context < 1:
        raise BadInput(f"{path}: {key.architecture}.context_length is no number", "Get it again.")
    return Facts(
        architecture=family.architecture,
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        context=context,
        can_think=SWITCH.encode() in found.keys.get(TEMPLATE, b""),
        own_template=TEMPLATE in found.keys,
        weights=_most(found),
    )


def _check_kind(path: Path, found: Layout) -> None:
    """An importance matrix has no architecture."""
    kind, architecture = (_word(found, f"general.{name}") for name in ("type", "architecture"))
    kind = "mmproj" if architecture == "clip" else kind or "model"
    kind = "vocab" if not found.tensors and kind == "model" else kind
    if kind in KINDS:
        raise BadInput(f"{path} is {KINDS[kind]}", "Name the GGUF of a language model.")


def _word(found: Layout, key: str) -> str:
    try:
        return str(decoded(found.keys[key]))
    except (KeyError, ValueError):
        return ""


def _check_use(path: Path, key: Keys) -> None:
    if key("pooling_type", None) is not None or key.architecture.endswith("bert"):
        raise BadInput(
            f"{path} is an embedding model ({shown(key.architecture)}): it answers nothing",
            "Name a model that answers.",
        )


def _most(found: Layout) -> str:
    """The type that most bytes of its matrices lie in."""
    count: Counter[str] = Counter()
    for name, place in found.tensors.items():
        if len(place.shape) == 2 and not name.startswith(CARRIED):
            count[place.kind] += place.size
    return count.most_common(1)[0][0] if count else ""
