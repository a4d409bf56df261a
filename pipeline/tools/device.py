"""Where to train: the GPU if there is one, else the CPU with a notice."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.common.errors import Missing, ToolFailed
from pipeline.tools import gpu
from pipeline.tools.children import STAGE, allowed

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Device:
    """What a run trains on."""

    device: str
    """`cpu` or `cuda`."""
    memory: int | None
    """Total bytes of the GPU's memory; None on the CPU."""


def visible(device: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What CUDA may see: nothing on the CPU, else the one card that `choose` looked at."""
    if device == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": gpu.card(environ)}


def choose(wanted: str) -> Device:
    """The device for `auto`, `cpu` or `cuda`.

    Raises:
        Missing: a GPU that is absent, or present and unusable.
    """
    present = gpu.present() and gpu.card() != ""
    if wanted == "cpu" or (wanted == "auto" and not present):
        return Device("cpu", None)
    if not present:
        raise Missing("there is no NVIDIA GPU on this machine", "Run with --device cpu.")
    if reason := gpu.unusable():
        raise Missing(reason, "Update the driver, or run with --device cpu.")
    return Device("cuda", _memory())


def _memory() -> int:
    """Total memory of the card that is used in bytes, as nvidia-smi tells it."""
    smi = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/lib/wsl/lib")
    if not smi:
        raise ToolFailed("nvidia-smi is missing", "Install the driver's tools, or --device cpu.")
    query = [smi, "-i", gpu.card(), "--query-gpu=memory.total"]
    query += ["--format=csv,noheader,nounits"]
    run = subprocess.run(
        query, capture_output=True, text=True, timeout=30, check=False, env=allowed(STAGE)
    )
    first = run.stdout.partition("\n")[0].strip()
    if run.returncode != 0 or not first.isdigit():
        raise ToolFailed(
            f"nvidia-smi does not tell the GPU's memory: {run.stdout[:80]!r}",
            "Repair the driver, or run with --device cpu.",
        )
    return int(first) * MEBIBYTE
