"""Where what lies in a GGUF file: its keys and tensors, without decoding them.

The format is llama.cpp's (docs/gguf.md, version 3). gguf-py reads the same, but makes an object of
each of the vocabulary's hundred thousand strings: two seconds a file, where this takes a tenth.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ToolFailed

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Place:
    """A tensor's type and shape, and where its bytes lie."""

    kind: str
    """ggml's name of the type, `Q8_0`."""
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """A GGUF file: raw values by key, places by tensor, and its bytes."""

    keys: dict[str, bytes]
    tensors: dict[str, Place]
    data: mmap.mmap


def layout(path: Path) -> Layout:
    """Read where what lies in a GGUF.

    Raises:
        ToolFailed: it is none, or it is cut off.
    """
    try:
        with path.open("rb") as file:
            return _Walk(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).layout()
    except (struct.error, ValueError, KeyError, OSError) as error:
        raise ToolFailed(
            f"{path} is no whole GGUF file: {error}", "Remove it and run again."
        ) from error


class _Walk:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def layout(self) -> Layout:
        if self.data[:4] != b"GGUF":
            raise ValueError("it does not start with GGUF")
        self.at = 8  # magic, version
        tensors, keys = self.number("Q"), self.number("Q")
        raw = dict(self.key() for _ in range(keys))
        infos = [self.tensor() for _ in range(tensors)]
        packed = raw.get("general.alignment")
        alignment = struct.unpack("<I", packed[4:8])[0] if packed else 32
        begin = self.at + -self.at % alignment
        places = {name: _place(kind, shape, begin + at) for name, kind, shape, at in infos}
        if any(place.start + place.size > len(self.data) for place in places.values()):
            raise ValueError("it is cut off")
        return Layout(raw, places, self.data)

    def number(self, form: str) -> int:
        value: int = struct.unpack_from(f"<{form}", self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size : self.at].decode("utf-8")

    def key(self) -> tuple[str, bytes]:
        name, start = self.text(), self.at
        self.skip(self.number("I"))
        return name, self.data[start : self.at]

    def skip(self, kind: int) -> None:
        if kind == _STRING:
            size = self.number("Q")
            self.at += size
        elif kind == _ARRAY:
            item, count = self.number("I"), self.number("Q")
            if item in _SIZES:
                self.at += count * _SIZES[item]
            else:
                for _ in range(count):
                    self.skip(item)
        else:
            self.at += _SIZES[kind]

    def tensor(self) -> tuple[str, int, tuple[int, ...], int]:
        name, dimensions = self.text(), self.number("I")
        shape = tuple(self.number("Q") for _ in range(dimensions))
        return name, self.number("I"), shape, self.number("Q")


def _place(kind: int, shape: tuple[int, ...], start: int) -> Place:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    known = GGMLQuantizationType(kind)
    block, size = GGML_QUANT_SIZES[known]
    count = 1
    for length in shape:
        count *= length
    return Place(known.name, shape, start, count // block * size)
