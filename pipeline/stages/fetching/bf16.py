"""Safetensors in bf16, written and checked block by block: memory is a block's, not a file's.

The bytes are those of safetensors' own `save_file`: a header, then the tensors by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.stages.packing.merged import Merged
from pipeline.stages.packing.weights import Weights, opened

BLOCK = 1 << 22  # weights


def write(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    blocks: Callable[[str], Iterable[Any]],
    whose: object,
) -> None:
    """Write a safetensors file.

    Args:
        shapes: of every tensor by name.
        blocks: the weights of a tensor, as torch tensors of some of its rows one after the other.
        whose: what an error names beside the tensor.

    Raises:
        BadInput: a weight is not finite.
    """
    import torch

    with path.open("wb") as file:
        file.write(_header(shapes))
        for name in sorted(shapes):
            for block in blocks(name):
                weights = block.to(torch.bfloat16).contiguous()
                _refuse_not_finite(weights, whose, name)
                file.write(weights.view(torch.uint8).numpy().data)


def write_hollow(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write a safetensors file of these shapes that holds no data, and takes no room (sparse)."""
    front = _header(shapes)
    with path.open("wb") as file:
        file.write(front)
        file.truncate(len(front) + 2 * sum(math.prod(shape) for shape in shapes.values()))


def check(path: Path, told: Callable[[int], None], whose: object) -> None:
    """See that every weight of a file is finite.

    Args:
        told: called with the number of weights after each block.

    Raises:
        BadInput: a weight is not finite.
    """
    with opened([path]) as weights:
        for name in weights.tensors:
            for block in stored(weights, name):
                _refuse_not_finite(block, whose, name)
                told(block.numel())


def stored(weights: Weights, name: str) -> Iterator[Any]:
    """A tensor in blocks of rows, flat, in the dtype that it is stored in."""
    import torch

    tensor = weights.tensors[name]
    rows = tensor.shape[0] if tensor.shape else 1
    step = max(1, BLOCK // max(1, tensor.row))
    for start in range(0, rows, step):
        bits = weights.bits(name, start, min(rows, start + step))
        block = torch.from_numpy(bits)
        yield block.view(torch.bfloat16) if tensor.dtype == "BF16" else block


def merged(model: Merged, name: str) -> Iterator[Any]:
    """A tensor that an adapter changes, in blocks of rows, rounded to bf16 already."""
    import torch

    rows, row = model.weights.tensors[name].shape[0], model.weights.tensors[name].row
    step = max(1, BLOCK // max(1, row))
    for start in range(0, rows, step):
        block = model.whole(name, start, min(rows, start + step), kind="BF16")
        yield torch.from_numpy(block)


def _refuse_not_finite(weights: Any, whose: object, name: str) -> None:
    import torch

    if not bool(torch.isfinite(weights).all()):
        raise BadInput(f"{whose}: {name} holds NaN or infinity", "Get the base again.")


def _header(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    described: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, shape in sorted(shapes.items()):
        end = begin + 2 * math.prod(shape)
        described[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
