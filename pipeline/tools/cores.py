"""How many cores this process may keep busy: its affinity, and the CPU quota of its container.

A container with `--cpus=2` on a machine of 64 cores sees them all. 64 threads would then be stopped
by the kernel again and again, and all would wait for the one that was stopped.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def cores(root: Path = Path("/")) -> int:
    """At least 1.

    Args:
        root: where /proc and /sys begin.
    """
    quota = min((math.ceil(cpus) for cpus in _quotas(root)), default=0)
    affinity = len(os.sched_getaffinity(0))
    return max(1, min(affinity, quota)) if quota else affinity


def _quotas(root: Path) -> Iterator[float]:
    """Every quota, in CPUs, that holds for this process' cgroup or one above it."""
    for mount, path in _groups(root):
        inside = Path(path)
        for group in (inside, *inside.parents):
            # without a cgroup namespace a container's path is the host's: only its root is there
            if (cpus := _quota(mount / group.relative_to("/"))) is not None:
                yield cpus


def _groups(root: Path) -> Iterator[tuple[Path, str]]:
    """Mount points and paths of this process' cgroups that may hold a CPU quota."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not path.startswith("/") or ".." in path.split("/"):
            path = "/"
        if not controllers:  # version 2; beside version 1 it has a folder of its own
            yield mounts, path
            yield mounts / "unified", path
        elif "cpu" in controllers.split(","):
            yield mounts / controllers, path
            yield mounts / "cpu", path


def _quota(group: Path) -> float | None:
    """CPUs that a group may use; None where it sets no bound."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # `max`, or no such group
        return None
