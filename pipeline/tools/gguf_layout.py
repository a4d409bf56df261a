"""Where what lies in a GGUF file: its keys and tensors, without decoding them.

The format is llama.cpp's (docs/gguf.md, versions 2 and 3). gguf-py reads the same, but makes an
object of each of the vocabulary's hundred thousand strings: two seconds a file, where this takes a
tenth. A file may be a stranger's: every length is held against what is left of it, and what
llama.cpp refuses (gguf.cpp) is refused here.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.common.errors import ToolFailed
from pipeline.common.foreign import shown
from pipeline.tools.gguf_types import TYPES
from pipeline.tools.gguf_values import decoded

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value
_UINT32, _STRING, _ARRAY = 4, 8, 9
VERSIONS = (2, 3)
DIMENSIONS = 4  # ggml.h, GGML_MAX_DIMS
ENTRIES = 1 << 16  # keys, or tensors; the largest models have some thousand
STRINGS = (
    1 << 23
)  # in all arrays; the largest vocabulary has a quarter of a million, and as many merges
FRONT = 1 << 29  # bytes before the first tensor; a large vocabulary takes 20 million
_KEY, _TENSOR = 13, 24  # bytes of the smallest: lengths and types, a value of one byte
_PARTS = "Get all parts of the same model, with the names that they were given."


@dataclass(frozen=True)
class Place:
    """A tensor's type and shape, and where its bytes lie."""

    kind: str
    """ggml's name of the type, `Q8_0`."""
    shape: tuple[int, ...]
    """Columns first, as ggml counts."""
    start: int
    size: int
    part: int = 0
    """Which file of a split model they lie in, counted from 0."""

    @property
    def rows(self) -> int:
        """Rows of a matrix, numbers of a vector."""
        return math.prod(self.shape[1:]) if len(self.shape) > 1 else self.shape[0]


@dataclass(frozen=True)
class Layout:
    """A GGUF file, or all parts of one: raw values by key, places by tensor, and the bytes."""

    keys: dict[str, bytes]
    """Of a split model, those of its first part."""
    tensors: dict[str, Place]
    parts: tuple[mmap.mmap, ...]

    @property
    def data(self) -> mmap.mmap:
        """The bytes of a file that is not split; of a split one the first part's."""
        return self.parts[0]

    def read(self, place: Place, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes of a tensor, from `start` to before `stop`, both counted from its first one."""
        stop = place.size if stop is None else min(stop, place.size)
        return self.parts[place.part][place.start + start : place.start + stop]


def layout(path: Path) -> Layout:
    """Read where what lies in a GGUF.

    Raises:
        ToolFailed: it is none, it is cut off, or it contradicts itself.
    """
    try:
        with path.open("rb") as file:
            return _Walk(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).layout()
    except (struct.error, ValueError, OSError) as error:
        raise ToolFailed(
            f"{path} is no whole GGUF file: {error}", "Remove it and run again."
        ) from error


def layouts(paths: Sequence[Path]) -> Layout:
    """Read where what lies in all parts of a split GGUF, in their order; one path is a whole file.

    Parts are what llama.cpp's gguf-split writes and llama-model-loader.cpp reads: all keys in the
    first one, in each `split.no`, `split.count` and `split.tensors.count`.

    Raises:
        ToolFailed: as for `layout`, or the parts are not those of one model.
    """
    found = [layout(path) for path in paths]
    tensors: dict[str, Place] = {}
    for number, (path, part) in enumerate(zip(paths, found, strict=True)):
        _check_part(path, part, number, len(paths))
        if twice := tensors.keys() & part.tensors.keys():
            raise ToolFailed(
                f"{path} has the tensor {shown(min(twice))}, which a part before it has too", _PARTS
            )
        tensors |= {name: replace(at, part=number) for name, at in part.tensors.items()}
    wanted = _split(found[0], "split.tensors.count")
    if len(paths) > 1 and wanted not in (None, len(tensors)):
        raise ToolFailed(
            f"{paths[0]} speaks of {wanted} tensors, its {len(paths)} parts have {len(tensors)}",
            _PARTS,
        )
    return Layout(found[0].keys, tensors, tuple(part.data for part in found))


def _check_part(path: Path, part: Layout, number: int, count: int) -> None:
    no, of = _split(part, "split.no"), _split(part, "split.count")
    if (no, of) == (number, count) or (count == 1 and of in (None, 0, 1)):
        return
    said = "nothing of parts" if no is None or of is None else f"part {no + 1} of {of}"
    raise ToolFailed(
        f"{path} is not part {number + 1} of {count} of a model: its keys say {said}", _PARTS
    )


def _split(found: Layout, key: str) -> int | None:
    """A number about splitting; None where there is none."""
    try:
        value = decoded(found.keys[key])
    except (KeyError, ValueError, struct.error):
        return None
    return value if type(value) is int else None


class _Walk:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.end, self.strings = data, 0, len(data), 0

    def layout(self) -> Layout:
        if self.data[:4] != b"GGUF":
            raise ValueError("it does not start with GGUF")
        self.at = 4
        version = self.number("I")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            other = "written for big-endian machines" if swapped in VERSIONS else "not known"
            raise ValueError(f"its version {version} is {other}")
        tensors, keys = self.count(_TENSOR), self.count(_KEY)
        raw: dict[str, bytes] = {}
        for _ in range(keys):
            name, value = self.key()
            _once(name, raw)
            raw[name] = value
        infos: dict[str, tuple[int, tuple[int, ...], int]] = {}
        for _ in range(tensors):
            name, info = self.tensor()
            _once(name, infos)
            infos[name] = info
        alignment = _alignment(raw.get("general.alignment"))
        begin = self.at + -self.at % alignment
        places = {name: _place(name, *info, begin, alignment) for name, info in infos.items()}
        self.check(places)
        return Layout(raw, places, (self.data,))

    def check(self, places: dict[str, Place]) -> None:
        """Each tensor lies within the file, and none in another."""
        at, before = 0, ""
        for name, place in sorted(places.items(), key=lambda item: item[1].start):
            if place.start + place.size > self.end:
                raise ValueError(f"it is cut off: {shown(name)} ends behind it")
            if place.start < at:
                raise ValueError(f"{shown(name)} lies in {shown(before)}")
            at, before = place.start + place.size, name

    def skip(self, size: int) -> None:
        """Go on by so many bytes, which the file must have."""
        if size > min(self.end, FRONT) - self.at:
            raise ValueError(f"it is cut off, or has more than {FRONT} bytes of keys")
        self.at += size

    def number(self, form: str) -> int:
        value: int = struct.unpack_from(f"<{form}", self.data, self.at)[0]
        self.skip(struct.calcsize(form))
        return value

    def count(self, least: int) -> int:
        """How many follow, of at least so many bytes each."""
        value = self.number("Q")
        if value > min(ENTRIES, (self.end - self.at) // least):
            raise ValueError(f"it speaks of {value} keys or tensors in {self.end} bytes")
        return value

    def text(self) -> str:
        size = self.number("Q")
        self.skip(size)
        return self.data[self.at - size : self.at].decode("utf-8")

    def key(self) -> tuple[str, bytes]:
        name, start = self.text(), self.at
        self.value(self.number("I"))
        return name, self.data[start : self.at]

    def value(self, kind: int) -> None:
        if kind == _STRING:
            self.skip(self.number("Q"))
        elif kind != _ARRAY:
            self.skip(_size(kind))
        else:
            item, count = self.number("I"), self.number("Q")
            if item == _STRING:
                self.texts(count)
            else:
                self.skip(count * _size(item))  # an array of arrays has no size: none exists

    def texts(self, count: int) -> None:
        """Go on behind so many strings. Their bounds are seen at the end: places only grow."""
        self.strings += count
        if self.strings > STRINGS or count > (self.end - self.at) // 8:
            raise ValueError(f"it speaks of {count} strings in {self.end} bytes")
        length, at = struct.Struct("<Q").unpack_from, self.at
        for _ in range(count):
            at += 8 + length(self.data, at)[0] if at < self.end else self.end
        self.skip(at - self.at)

    def tensor(self) -> tuple[str, tuple[int, tuple[int, ...], int]]:
        name, dimensions = self.text(), self.number("I")
        if not 1 <= dimensions <= DIMENSIONS:
            raise ValueError(f"{shown(name)} has {dimensions} dimensions")
        shape = tuple(self.number("Q") for _ in range(dimensions))
        return name, (self.number("I"), shape, self.number("Q"))


def _once(name: str, found: Container[str]) -> None:
    if not name or name in found:
        raise ValueError(f"the name {shown(name)!r} is empty or stands in it twice")


def _size(kind: int) -> int:
    if kind not in _SIZES:
        raise ValueError(f"a value of the type {kind}")
    return _SIZES[kind]


def _alignment(packed: bytes | None) -> int:
    """What tensors begin at multiples of: a power of two."""
    if packed is None:
        return 32
    value = int.from_bytes(packed[4:], "little")
    if packed[:4] != struct.pack("<I", _UINT32) or value.bit_count() != 1:
        raise ValueError(f"its alignment {value} is no power of two")
    return value


def _place(
    name: str, kind: int, shape: tuple[int, ...], at: int, begin: int, alignment: int
) -> Place:
    """Where a tensor lies that is said to lie `at` bytes behind the first one."""
    if kind not in TYPES:
        raise ValueError(f"{shown(name)} is of the type {kind}")
    type_name, block, size = TYPES[kind]
    count = 1
    for length in shape:
        count *= length
    if not 0 < count < 1 << 63 or shape[0] % block:
        raise ValueError(f"{shown(name)} has the shape {shape} in {type_name}")
    if at % alignment:
        raise ValueError(f"{shown(name)} does not begin at a multiple of {alignment}")
    return Place(type_name, shape, begin + at, count // block * size)
