"""Where to train: the GPU if there is one, else the CPU with a notice."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from pipeline.errors import Missing, ToolFailed
from pipeline.tools import gpu

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Device:
    """What a run trains on."""

    device: str
    """`cpu` or `cuda`."""
    memory: int | None
    """Total bytes of the GPU's memory; None on the CPU."""


def choose(wanted: str) -> Device:
    """The device for `auto`, `cpu` or `cuda`.

    Raises:
        Missing: a GPU that is absent, or present and unusable.
    """
    if wanted == "cpu" or (wanted == "auto" and not gpu.present()):
        return Device("cpu", None)
    if not gpu.present():
        raise Missing("there is no NVIDIA GPU on this machine", "Run with --device cpu.")
    if reason := gpu.unusable():
        raise Missing(reason, "Update the driver, or run with --device cpu.")
    return Device("cuda", _memory())


def _memory() -> int:
    """Total memory of the first GPU in bytes, as nvidia-smi tells it."""
    smi = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/lib/wsl/lib")
    if not smi:
        raise ToolFailed("nvidia-smi is missing", "Install the driver's tools, or --device cpu.")
    query = [smi, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    run = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    first = run.stdout.partition("\n")[0].strip()
    if run.returncode != 0 or not first.isdigit():
        raise ToolFailed(
            f"nvidia-smi does not tell the GPU's memory: {run.stdout[:80]!r}",
            "Repair the driver, or run with --device cpu.",
        )
    return int(first) * MEBIBYTE
