"""What the front of a GGUF file says of a base."""

from __future__ import annotations

import math
import struct
from pathlib import Path

from pipeline.bases import families
from pipeline.bases.located import Facts
from pipeline.bases.own_template import SWITCH
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.common.foreign import shown
from pipeline.tools.gguf_layout import layout

_UINT32, _STRING = 4, 8  # types of values (llama.cpp's docs/gguf.md)


def files(path: Path) -> list[str]:
    """The file itself."""
    return [path.name]


def facts(path: Path) -> Facts:
    """What is known without the weights.

    Raises:
        BadInput: no GGUF, a key that is missing, or a family that is not read from a GGUF.
    """
    try:
        found = layout(path)
    except ToolFailed as error:
        raise BadInput(error.what, "Get the file again.") from error
    name = _text(path, "general.architecture", found.keys)
    family = families.of_gguf(name)
    if family is None:
        raise BadInput(
            f"{path}: a GGUF of the family {shown(name) or 'none'} is not supported",
            f"Supported: {', '.join(families.in_gguf())}.",
        )
    template = found.keys.get("tokenizer.chat_template", b"")
    return Facts(
        architecture=family.architecture,
        parameters=sum(math.prod(tensor.shape) for tensor in found.tensors.values()),
        context=_number(path, f"{name}.context_length", found.keys),
        can_think=SWITCH.encode() in template,
    )


def _text(path: Path, key: str, keys: dict[str, bytes]) -> str:
    raw = keys.get(key, b"")
    if raw[:4] != struct.pack("<I", _STRING):
        raise BadInput(f"{path} lacks the key {key}, or it is no text", "Get the file again.")
    return raw[12:].decode("utf-8", "replace")  # behind the type, the length in eight bytes


def _number(path: Path, key: str, keys: dict[str, bytes]) -> int:
    raw = keys.get(key, b"")
    if raw[:4] != struct.pack("<I", _UINT32):
        raise BadInput(f"{path} lacks the key {key}, or it is no number", "Get the file again.")
    return int.from_bytes(raw[4:], "little")
