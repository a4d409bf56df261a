"""One GGUF to write: the type of each tensor, its keys, its size, all known before it is begun.

The types are llama.cpp's own choice: its quantizer is asked on a file of the right shapes without
data (sparse: it takes no room), in a dry run. Order of tensors and keys are those that it writes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.tools import llamacpp
from pipeline.tools.gguf_header import Entry, header, padding
from pipeline.tools.gguf_layout import layout
from pipeline.tools.gguf_values import uint32
from pipeline.tools.outline import Outline, Tensor

VERSION, FILE_TYPE = "general.quantization_version", "general.file_type"


@dataclass(frozen=True)
class Target:
    """A file of one quantization."""

    quantization: str
    """llama.cpp's name of it: Q4_K_M."""
    merge_dtype: str
    """What the merged weights are rounded to before they are quantized."""
    entries: dict[str, Entry]
    """Type and size of each tensor, by name, in the file's order."""
    front: bytes
    size: int
    """Bytes of the whole file."""
    copied: frozenset[str] = frozenset()
    """Tensors whose bytes are those of the base's GGUF."""


def merge_dtype(quantization: str) -> str:
    """The type between merging and quantizing; a file of floats is rounded once, to its own.

    float16 holds ten bits of a weight, bfloat16 seven: what is quantized is that much nearer to
    base + adapter.
    """
    return quantization if quantization in ("F32", "BF16") else "F16"


def in_order(outline: Outline) -> list[Tensor]:
    """The tensors in the order in which llama.cpp's quantizer writes them.

    By layer, those of none first, then by name (llama-model-loader.h, weight_name_comparer).
    """

    def place(tensor: Tensor) -> tuple[int, str]:
        found = re.match(r"blk\.(\d+)", tensor.name)
        return int(found[1]) if found else -1, tensor.name

    return sorted(outline.tensors, key=place)


def target(outline: Outline, vocab: Path, quantization: str, scratch: Path) -> Target:
    """What a quantization of this base will look like.

    Raises:
        ToolFailed: llama.cpp cannot quantize it so.
    """
    keys = layout(vocab).keys
    floats = merge_dtype(quantization)
    kinds = planned(outline, keys, quantization, scratch)
    entries = [_entry(tensor, kinds[tensor.name]) for tensor in in_order(outline)]
    return made(quantization, floats, keys, entries)


def planned(
    outline: Outline, keys: dict[str, bytes], quantization: str, scratch: Path
) -> dict[str, str]:
    """The type of each tensor, by name.

    Raises:
        ToolFailed: llama.cpp cannot quantize it so.
    """
    floats = merge_dtype(quantization)
    asked = scratch / f"shapes-{quantization}.gguf"
    tensors = in_order(outline)
    _write_shapes(asked, keys, [_entry(tensor, _stored(tensor, floats)) for tensor in tensors])
    kinds = llamacpp.planned_types(asked, quantization)
    asked.unlink()
    return kinds


def made(
    quantization: str,
    floats: str,
    keys: dict[str, bytes],
    entries: Sequence[Entry],
    copied: frozenset[str] = frozenset(),
) -> Target:
    """The file of these keys and tensors."""
    front = header(_keys(keys, quantization), entries)
    size = len(front) + sum(entry.size + padding(entry.size) for entry in entries)
    by_name = {entry.name: entry for entry in entries}
    return Target(quantization, floats, by_name, front, size, copied)


def _stored(tensor: Tensor, floats: str) -> str:
    return floats if tensor.kind == "F16" else tensor.kind


def _entry(tensor: Tensor, kind: str) -> Entry:
    return Entry(tensor.name, kind, tensor.shape)


def _write_shapes(path: Path, keys: dict[str, bytes], entries: Sequence[Entry]) -> None:
    front = header(keys, entries)
    with path.open("wb") as file:
        file.write(front)
        file.truncate(len(front) + sum(entry.size + padding(entry.size) for entry in entries))


def _keys(keys: dict[str, bytes], quantization: str) -> dict[str, bytes]:
    """The quantizer takes two keys out and puts them at the end (llama-quant.cpp, gguf_set_val)."""
    from gguf.constants import GGML_QUANT_VERSION

    kept = {name: value for name, value in keys.items() if name not in (VERSION, FILE_TYPE)}
    number = llamacpp.quantization_types()[quantization]
    return {**kept, VERSION: uint32(GGML_QUANT_VERSION), FILE_TYPE: uint32(number)}
