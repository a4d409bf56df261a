"""A browser for the tests of reports: Debian's Chromium, where it can be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from pipeline.common import places
from pipeline.common.errors import ToolFailed
from pipeline.setup.step import Step, Work

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SYSTEM = Path("/etc/os-release")
PATIENCE = 24 * 3600  # seconds, before an attempt that failed is made again
_IMPATIENT = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20")
WAY_OUT = "the tests that open a report are skipped; to have them: apt-get install chromium"


def found() -> Path | None:
    """A Chromium of this machine, None where there is none."""
    some = next(filter(None, map(shutil.which, NAMES)), None)
    return Path(some) if some else None


def browser() -> list[Step]:
    """The step that installs one, if there is none and it can; says where it cannot."""
    if found():
        return []
    if reason := _impossible():
        print(f"No Chromium here, and {reason}: {WAY_OUT}", flush=True)
        return []
    return [
        Step("Chromium", done=lambda: found() is not None, run=_install, seconds=60, beside=True)
    ]


def _impossible() -> str:
    """Why it cannot be installed; '' if nothing is known against it."""
    try:
        # Ubuntu's package of this name is a snap, which does not start in a container
        debian = "ID=debian" in SYSTEM.read_text().splitlines()
    except OSError:
        debian = False
    if not debian or not shutil.which("apt-get"):
        return "this is no Debian, whose package it would be"
    if not _command():
        return "installing it needs root"
    with suppress(OSError):
        if time.time() - _failed().stat().st_mtime < PATIENCE:
            return f"installing it failed today (remove {_failed()} to try again)"
    return ""


def _failed() -> Path:
    """Lies where an attempt went wrong: without a network each one takes long."""
    return places.cache_home() / "no-chromium"


def _command() -> list[str]:
    """What comes before apt-get; [] where it would ask for a password."""
    if os.geteuid() == 0:
        return ["env"]
    asked = ["sudo", "-n", "true"]
    if shutil.which("sudo") and subprocess.run(asked, capture_output=True).returncode == 0:
        return ["sudo", "-n", "env"]
    return []


def _install(work: Work) -> None:
    """No test set-up fails for want of it: the tests say that they are skipped, and why."""
    apt = [*_command(), "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", *_IMPATIENT]
    try:
        work.child([*apt, "update"])
        work.child([*apt, "install", "-y", "--no-install-recommends", "chromium"])
    except ToolFailed as error:
        _failed().touch()
        print(f"Chromium could not be installed ({error.what}): {WAY_OUT}", flush=True)
