"""The front of a GGUF file: keys, and where each tensor lies (llama.cpp's docs/gguf.md, version 3).

Keys are given and written as bytes: those of a large vocabulary take seconds to decode.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 32  # of llama.cpp's quantizer and converter: what follows a tensor is padded to it


@dataclass(frozen=True)
class Entry:
    """A tensor as the front of the file describes it."""

    name: str
    kind: str
    """ggml's name of the type."""
    shape: tuple[int, ...]
    """Rows, columns."""

    @property
    def size(self) -> int:
        """Bytes without padding."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        block, size = GGML_QUANT_SIZES[GGMLQuantizationType[self.kind]]
        return int(math.prod(self.shape) // block * size)


def padding(size: int) -> int:
    """Bytes that follow so many bytes."""
    return -size % ALIGNMENT


def header(keys: Mapping[str, bytes], entries: Sequence[Entry]) -> bytes:
    """Everything before the first tensor's bytes, padding included.

    Args:
        keys: type and value as they lie in a file, by name, in order.
        entries: in the order in which their bytes follow.
    """
    from gguf.constants import GGMLQuantizationType

    parts = [b"GGUF", struct.pack("<IQQ", 3, len(entries), len(keys))]
    for name, value in keys.items():
        parts += [_text(name), value]
    at = 0
    for entry in entries:
        lengths = [*reversed(entry.shape)]  # ggml counts the columns first
        parts += [
            _text(entry.name),
            struct.pack(f"<I{len(lengths)}Q", len(lengths), *lengths),
            struct.pack("<IQ", GGMLQuantizationType[entry.kind], at),
        ]
        at += entry.size + padding(entry.size)
    front = b"".join(parts)
    return front + bytes(padding(len(front)))


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
