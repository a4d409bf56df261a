"""Values of a GGUF's keys: from the bytes that `gguf_layout` found to Python's, and back.

The format is llama.cpp's (docs/gguf.md, "gguf_metadata_value_type").
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

_FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_UINT32, _FLOAT32 = 4, 6


def decoded(raw: bytes) -> Any:
    """A number, flag, text, or list of them.

    Args:
        raw: type and value, of a file whose bounds were checked (`gguf_layout`).

    Raises:
        ValueError: a type that does not exist, or a text that is not UTF-8.
    """
    kind = struct.unpack_from("<I", raw)[0]
    if kind == _STRING:
        return raw[12:].decode("utf-8")
    if kind != _ARRAY:
        return struct.unpack_from(f"<{_form(kind)}", raw, 4)[0]
    item, count = struct.unpack_from("<IQ", raw, 4)
    if item != _STRING:
        return list(struct.unpack_from(f"<{count}{_form(item)}", raw, 16))
    found, at = [], 16
    for _ in range(count):
        size = struct.unpack_from("<Q", raw, at)[0]
        found.append(raw[at + 8 : at + 8 + size].decode("utf-8"))
        at += 8 + size
    return found


def text(value: str) -> bytes:
    """A text as GGUF writes it: type, length, bytes."""
    plain = value.encode()
    return struct.pack("<IQ", _STRING, len(plain)) + plain


def texts(values: Sequence[str]) -> bytes:
    """An array of texts as GGUF writes it."""
    parts = [struct.pack("<IIQ", _ARRAY, _STRING, len(values))]
    for value in values:
        plain = value.encode()
        parts += [struct.pack("<Q", len(plain)), plain]
    return b"".join(parts)


def float32(value: float) -> bytes:
    """A number in 32 bits as GGUF writes it."""
    return struct.pack("<If", _FLOAT32, value)


def uint32(value: int) -> bytes:
    """A whole number as GGUF writes it."""
    return struct.pack("<II", _UINT32, value)


def _form(kind: int) -> str:
    if kind not in _FORMS:
        raise ValueError(f"a value of the type {kind}")
    return _FORMS[kind]
