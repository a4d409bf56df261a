"""Whether the disks have room for what a run will write, asked before it begins."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline.common.errors import BadInput
from pipeline.common.words import size
from pipeline.tools.gguf_types import BYTES_A_WEIGHT

SPARE = 1.05  # of what is written: logs, checkpoints, what is not counted


def needed(
    parameters: int,
    types: list[str],
    *,
    fetches: bool,
    packs: bool,
    store: Path,
    models: Path,
    copies: int = 1,
) -> dict[Path, int]:
    """Bytes that a run writes, by folder.

    Args:
        parameters: of the base.
        types: of the files that are packed; the first is registered.
        fetches, packs: whether these stages are still to run.
        models: where Ollama keeps its files.
        copies: how many Ollama makes: two before 0.34.1, which writes a file anew.
    """
    files = [int(parameters * BYTES_A_WEIGHT.get(name, 1.0)) for name in types]
    found = {store: 0, models: 0}
    if fetches:
        found[store] += 2 * parameters
    if packs:
        found[store] += sum(files)
    found[models] += copies * files[0]
    return found


def check(needs: Mapping[Path, int]) -> None:
    """See that every file system has room.

    Raises:
        BadInput: one has not: how much is needed there, and how much is free.
    """
    by_disk: dict[int, tuple[Path, int]] = {}
    for folder, count in needs.items():
        there = _existing(folder)
        disk = os.stat(there).st_dev
        first, before = by_disk.get(disk, (there, 0))
        by_disk[disk] = (first, before + count)
    for folder, count in by_disk.values():
        free = shutil.disk_usage(folder).free
        if count * SPARE > free:
            raise BadInput(
                f"the disk is full: this run needs {size(int(count * SPARE))} in {folder},"
                f" {size(free)} are free",
                "Free some space (`specialist gc` removes what no release uses), or move the store:"
                " SPECIALIST_HOME=/another/disk.",
            )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
