"""Base and adapter to finished GGUF files in one pass: read, merge, round, quantize, write.

Blocks of rows go through a pool of threads and are written in order, so that memory is bounded by
blocks and threads. Each weight is read once, however many files are made of it.

The bytes are those of the long road (long_road.py) with the same merged weights: the converter's
names, order of rows and constants (tools/outline.py), llama.cpp's choice of types (target.py), and
kernels that compute what its quantizer does (kernels.py).
"""

from __future__ import annotations

import math
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pipeline.common.errors import ToolFailed
from pipeline.common.progress import Progress
from pipeline.common.values import whole
from pipeline.stages.packing import arithmetic
from pipeline.stages.packing.adapter import opened_adapter
from pipeline.stages.packing.clock import Clock
from pipeline.stages.packing.merged import Merged
from pipeline.stages.packing.target import Target
from pipeline.stages.packing.weights import Weights
from pipeline.tools.gguf_header import padding
from pipeline.tools.outline import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Made = list[NDArray[np.uint8]]  # one array of bytes for each target

BLOCK = 1 << 20  # weights in a block: 4 MB in float32, some blocks for each thread
ROOM = 64 << 20  # bytes that stay free on the disk


def write(
    base: AbstractContextManager[Weights],
    adapter: Path | None,
    tensors: Sequence[Tensor],
    outputs: dict[Path, Target],
    *,
    threads: int,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Clock:
    """Write every output, each whole or not at all.

    Args:
        base: its weights by the directory's names.
        adapter: a folder in PEFT's format; None for the base as it is.
        tensors: of the GGUF, in the order in which they are written.
        outputs: what goes into which file.

    Returns:
        where the time went.

    Raises:
        BadInput: an adapter that cannot be merged faithfully.
        ToolFailed: a weight that is no number, a module that merging does not change, too little
            room on the disk.
    """
    targets = list(outputs.values())
    for folder in {path.parent for path in outputs}:
        check_room(folder, sum(t.size for path, t in outputs.items() if path.parent == folder))
    clock = Clock()
    with ExitStack() as stack:
        weights = stack.enter_context(base)
        loras = stack.enter_context(opened_adapter(adapter, weights)) if adapter else {}
        merged = Merged(weights, loras, clock)
        beside = [stack.enter_context(whole(path)) for path in outputs]
        files = [stack.enter_context(path.open("wb")) for path in beside]
        for file, target in zip(files, targets, strict=True):
            file.write(target.front)
        _pump(merged, tensors, targets, files, threads, report)
        merged.check_changed()
    return clock


def check_room(folder: Path, needed: int) -> None:
    """Ask for so many bytes before they are written.

    Raises:
        ToolFailed: the disk has not that much left.
    """
    free = shutil.disk_usage(folder).free
    if needed + ROOM > free:
        raise ToolFailed(
            f"the disk is full: packing takes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
            f" under {folder}",
            "Free some space (`specialist gc` removes what no release uses) and run again.",
        )


def _pump(
    merged: Merged,
    tensors: Sequence[Tensor],
    targets: Sequence[Target],
    files: Sequence[IO[bytes]],
    threads: int,
    report: Callable[[Progress], None],
) -> None:
    """All blocks through the pool and into the files, in order; a few are under way at a time."""
    total = sum(target.size for target in targets)
    under_way = deque[Future["Made"]]()

    def write_one() -> None:
        made = under_way.popleft().result()
        with merged.clock("write"):
            for file, data in zip(files, made, strict=True):
                file.write(data.data)
        done = sum(file.tell() for file in files)
        report(Progress(done, total, f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"))

    with ThreadPoolExecutor(threads) as pool:
        try:
            for tensor, following in zip(tensors, [*tensors[1:], None], strict=True):
                if following and following.source in merged.weights.tensors:
                    merged.weights.ahead(following.source)
                for start, stop in _blocks(tensor):
                    under_way.append(pool.submit(_block, merged, tensor, targets, start, stop))
                    if len(under_way) > threads + 1:
                        write_one()
            while under_way:
                write_one()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _blocks(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """Rows from and to; what is reordered together stays together, a vector is one block."""
    rows = tensor.shape[0]
    together = max(1, len(tensor.order))
    a_row = math.prod(tensor.shape[1:])
    step = max(1, BLOCK // (a_row * together)) * together if a_row > 1 else rows
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _block(
    merged: Merged, tensor: Tensor, targets: Sequence[Target], start: int, stop: int
) -> Made:
    """The bytes of some rows for each target; those of the last rows with what pads the tensor."""
    import numpy as np

    made = []
    kinds = sorted({t.merge_dtype for t in targets if tensor.name not in t.copied})
    rows = merged.rows(tensor, start, stop, kinds) if kinds else {}
    for target in targets:
        entry = target.entries[tensor.name]
        if tensor.name in target.copied:
            with merged.clock("copy"):
                data = merged.weights.raw(tensor.name, start, stop)
        else:
            with merged.clock(f"quantize {entry.kind}"):
                data = arithmetic.quantized(rows[target.merge_dtype], entry.kind).reshape(-1)
        if stop == tensor.shape[0] and (pad := padding(entry.size)):
            data = np.concatenate([data, np.zeros(pad, np.uint8)])
        made.append(data)
    return made
