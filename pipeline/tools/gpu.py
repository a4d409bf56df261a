"""The NVIDIA device: is one there, and does its driver fit the CUDA build of torch?

Asks the kernel and nvidia-smi, never torch: it must answer before anything is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipeline.tools.children import STAGE, allowed

DRIVER = 580  # the least for CUDA 13, which torch 2.13 is built with (CUDA release notes)
CAPABILITY = 7.5  # CUDA 13 has dropped what is older than Turing
_WSL = Path("/usr/lib/wsl/lib")  # WSL2 has no /dev/nvidia*; Windows' driver puts its tools here


def card(environ: Mapping[str, str] = os.environ) -> str:
    """The one card that is used, as nvidia-smi names it; '' where the user lets CUDA see none.

    It is the first of CUDA_VISIBLE_DEVICES: this one is judged, its memory decides what fits, and
    CUDA is shown no other.
    """
    first = environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    return "" if first == "-1" else first


def unusable(root: Path = Path("/"), smi: str | None = None) -> str:
    """Why the `card` cannot be used; empty if it can, or if there is none.

    Args:
        root: where /dev, /proc and /sys begin.
        smi: the nvidia-smi to ask; the machine's own if not given.
    """
    smi = smi or _smi(root)
    if not present(root) or not card():
        return ""
    told = _ask(smi) if smi else ""
    if not told:  # nvidia-smi may be missing in a container; the kernel module still has a version
        version = _module(root)
        if not version:
            return "There is an NVIDIA device, but no working driver for it"
        return _too_old(version)
    name, version, capability = (part.strip() for part in told.split(",")[:3])
    if reason := _too_old(version):
        return reason
    if re.fullmatch(r"[\d.]+", capability) and float(capability) < CAPABILITY:
        return f"The NVIDIA device {name} (compute {capability}) is too old for CUDA 13"
    return ""


def present(root: Path = Path("/")) -> bool:
    """True if this machine, or this container, has been given an NVIDIA device."""
    if any(root.glob("dev/nvidia[0-9]*")) or (root / _WSL.relative_to("/") / "nvidia-smi").exists():
        return True
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return False  # /sys shows the host's devices in a container that may not use them
    return any(_is_nvidia_display(folder) for folder in root.glob("sys/bus/pci/devices/*"))


def _is_nvidia_display(folder: Path) -> bool:
    try:
        vendor = (folder / "vendor").read_text().strip()
        return vendor == "0x10de" and (folder / "class").read_text().startswith("0x03")
    except OSError:
        return False


def _smi(root: Path) -> str | None:
    return shutil.which("nvidia-smi") or shutil.which(
        "nvidia-smi", path=str(root / _WSL.relative_to("/"))
    )


def _ask(smi: str) -> str:
    """`name, driver, compute capability` of the card; empty if it does not know."""
    query = [smi, "-i", card(), "--query-gpu=name,driver_version,compute_cap"]
    query += ["--format=csv,noheader"]
    try:
        run = subprocess.run(
            query, capture_output=True, text=True, timeout=30, check=False, env=allowed(STAGE)
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    first = run.stdout.partition("\n")[0]
    return first if run.returncode == 0 and first.count(",") >= 2 else ""


def _module(root: Path) -> str:
    try:
        text = (root / "proc/driver/nvidia/version").read_text()
    except OSError:
        return ""
    found = re.search(r"Kernel Module(?: for \S+)?\s+([\d.]+)", text)
    return found[1] if found else ""


def _too_old(version: str) -> str:
    if int(version.partition(".")[0]) >= DRIVER:
        return ""
    return f"The NVIDIA driver {version} is too old: the CUDA 13 build of torch needs {DRIVER}"
