"""The front of a safetensors file: its tensors by name, every place checked against the file.

The rules are those of the library (huggingface/safetensors, tensor.rs, `Metadata::validate`):
sorted by place, the tensors follow each other without a hole from the first byte to the last one,
and each has as many bytes as its shape needs. The library maps the whole file; this reads the front
only.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.common.foreign import read_object, shown

BYTES = {"F32": 4, "F16": 2, "BF16": 2}
DTYPES = tuple(BYTES)
LONGEST = 16 << 20  # bytes of a header; one of a model of a thousand layers has two million
DIMENSIONS = 8


def header(path: Path) -> dict[str, dict[str, Any]]:
    """Tensors of a safetensors file by name: dtype, shape, data_offsets.

    Raises:
        BadInput: no safetensors, cut short, places that contradict the file or each other, or
            weights that are not floats of 16 or 32 bits.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(LONGEST, size - 8):
                raise ValueError(f"a header of {length} bytes in {size}")
            raw = file.read(length)
        found = read_object(raw, once=True)
        found.pop("__metadata__", None)
        _check(found, size - 8 - length)
    except (ValueError, struct.error) as error:
        raise BadInput(
            f"{path} is damaged or no safetensors file: {error}",
            "Get the file again (a pointer of Git LFS is not the file itself).",
        ) from error
    for name, tensor in found.items():
        if tensor["dtype"] not in BYTES:
            raise BadInput(
                f"{path}: {shown(name)} is stored as {shown(tensor['dtype'])}",
                f"Take a base whose weights are {', '.join(DTYPES)}.",
            )
    return found


def _check(found: dict[str, Any], room: int) -> None:
    """Every tensor is described, and together they fill `room` bytes once."""
    places = sorted(_place(name, tensor) for name, tensor in found.items())
    if not places:
        raise ValueError("it holds no tensor")
    at = 0
    for start, stop, name in places:
        if start != at:
            raise ValueError(f"{name} begins at byte {start}, and {at} bytes lie before it")
        at = stop
    if at != room:
        raise ValueError(f"{at} bytes expected, {room} found")


def _place(name: str, tensor: Any) -> tuple[int, int, str]:
    """First byte, the byte behind the last one, and the name to show."""
    told = shown(name)
    if not isinstance(tensor, dict) or not isinstance(tensor.get("dtype"), str):
        raise ValueError(f"{told} has no type")
    shape: Any = tensor.get("shape")
    offsets: Any = tensor.get("data_offsets")
    if not _counts(shape) or len(shape) > DIMENSIONS:
        raise ValueError(f"the shape of {told} is {shown(shape)}")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"the place of {told} is {shown(offsets)}")
    size = BYTES.get(tensor["dtype"])
    for length in shape if size else ():
        size *= length
    if size is not None and offsets[1] - offsets[0] != size:
        raise ValueError(f"{told} has {offsets[1] - offsets[0]} bytes for {shape}")
    return offsets[0], offsets[1], told


def _counts(value: Any) -> bool:
    """A list of numbers that a file can have; True and False are none."""
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)
