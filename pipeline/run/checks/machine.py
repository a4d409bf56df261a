"""This machine, as far as no model is needed: packages, llama.cpp, variables, GPU, store, clock."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from pipeline.common import places
from pipeline.common.private import MASK
from pipeline.common.words import duration, size
from pipeline.run.checks.finding import Finding, fail, ok, warn
from pipeline.tools import converter, device, llamacpp
from pipeline.tools.cores import cores

REQUIREMENTS = Path(__file__).resolve().parents[3] / "requirements.txt"
PYTHONS = ((3, 11), (3, 14))  # from, and before: pyproject.toml
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
SET_UP = "make setup"
LATE = 60.0  # seconds that two clocks may differ by


def python() -> Finding:
    """Python's version, and the packages that requirements.txt pins."""
    now = sys.version_info[:2]
    name = "Python {}.{}".format(*now)
    if not PYTHONS[0] <= now < PYTHONS[1]:
        return fail("python", f"{name}; it runs on 3.11 to 3.13", f"{SET_UP} PYTHON=python3.13")
    if not REQUIREMENTS.exists():
        return warn("python", f"{name}; {REQUIREMENTS} is not there to compare with", SET_UP)
    wrong = differing(REQUIREMENTS.read_text())
    if wrong:
        return fail("python", f"{name}; other packages than pinned: {_some(wrong)}", SET_UP)
    return ok("python", f"{name}, packages as pinned")


def differing(pins: str) -> list[str]:
    """Packages that are here in another version than pinned, or not at all.

    Args:
        pins: lines `name==version ; markers`, as uv writes them.
    """
    found = []
    for line in pins.splitlines():
        if not (pin := re.match(r"([\w.-]+)==(\S+)", line)) or not _applies(line):
            continue
        try:
            version = metadata.version(pin[1])
        except metadata.PackageNotFoundError:
            version = "none"
        if version.partition("+")[0] != pin[2].partition("+")[0]:
            found.append(f"{pin[1]} {version} instead of {pin[2]}")
    return found


def _applies(line: str) -> bool:
    from packaging.markers import Marker

    marker = line.partition(";")[2].strip()
    return not marker or Marker(marker).evaluate()


def _some(found: list[str]) -> str:
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


def llama() -> Finding:
    """llama.cpp's library and its converter."""
    llamacpp.library()
    converter.script()
    return ok("llama.cpp", f"library and converter of {places.LLAMA_CPP_PYTHON}")


def variables(environ: Mapping[str, str] = os.environ) -> Iterable[Finding]:
    """Variables that change what happens."""
    for name in ("OLLAMA_HOST", "OLLAMA_MODELS", "SPECIALIST_HOME", "CUDA_VISIBLE_DEVICES"):
        if name in environ:
            yield ok(name, environ[name] or "empty")
    if environ.get("OLLAMA_GO_TEMPLATE"):
        found = f"{environ['OLLAMA_GO_TEMPLATE']}: a server with it runs no model's own template"
        yield warn("OLLAMA_GO_TEMPLATE", found, "unset OLLAMA_GO_TEMPLATE, and restart Ollama")
    if proxies := [name for name in PROXIES if environ.get(name)]:
        yield ok(", ".join(proxies), "ignored on the way to Ollama")


def gpu() -> Finding:
    """The GPU, or that there is none."""
    chosen = device.choose("auto")
    if chosen.memory is None:
        return ok("gpu", f"none; trained on {cores()} cores")
    return ok("gpu", f"NVIDIA, {size(chosen.memory)}, its driver fits")


def store(root: Path) -> Finding:
    """Whether the store can be written, and by nobody else read."""
    there = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        mend = f'chown -R "$USER" {there}, or set SPECIALIST_HOME to another folder'
        return fail("store", f"{there} cannot be written", mend)
    private = (root / "stages", root / "releases")
    opened = [str(path) for path in private if path.exists() and path.stat().st_mode & MASK]
    if opened:
        return warn("store", f"others may read {opened[0]}", f"chmod -R go= {' '.join(opened)}")
    return ok("store", str(root))


def clock(root: Path, now: float | None = None) -> Finding:
    """Whether the clock is behind the newest record: the newest is what is taken first."""
    now = time.time() if now is None else now
    records = [*root.glob("stages/*/record.json"), *root.glob("releases/*.json")]
    newest = max((path.stat().st_mtime for path in records), default=0.0)
    if newest > now + LATE:
        late = duration(newest - now)
        return warn("clock", f"it is {late} behind the newest record", "timedatectl set-ntp true")
    return ok("clock", "not behind any record")
