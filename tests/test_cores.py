"""As many threads as the container may run, not as the host has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.run.child_process import ChildProcess
from pipeline.tools.cores import cores


@pytest.fixture(autouse=True)
def sixty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))


def machine(root: Path, cgroup: str, **files: str) -> Path:
    """A root with /proc/self/cgroup and files below /sys/fs/cgroup; `__` is a slash."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert cores(tmp_path) == 64  # no /proc at all
    assert cores(machine(tmp_path, "0::/\n")) == 64
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    assert cores(tmp_path) == 64


@pytest.mark.parametrize(
    ("quota", "wanted"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("9900000 100000", 64),
        ("max 100000", 64),
        ("", 64),
    ],
)
def test_the_quota_of_version_2_is_rounded_up(tmp_path: Path, quota: str, wanted: int) -> None:
    assert cores(machine(tmp_path, "0::/\n", cpu_max=quota)) == wanted


def test_the_tightest_of_nested_groups_holds(tmp_path: Path) -> None:
    above = machine(
        tmp_path / "above",
        "0::/pod/box\n",
        pod__cpu_max="300000 100000",
        pod__box__cpu_max="max 100000",
    )
    assert cores(above) == 3
    within = machine(
        tmp_path / "within",
        "0::/pod/box\n",
        pod__cpu_max="800000 100000",
        pod__box__cpu_max="400000 100000",
        pod__other__cpu_max="100000 100000",
    )
    assert cores(within) == 4


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_version_1_has_quota_and_period_apart(tmp_path: Path, folder: str) -> None:
    files = {
        f"{folder}__docker__abc__cpu_cfs_quota_us": "250000",
        f"{folder}__docker__abc__cpu_cfs_period_us": "100000",
        f"{folder}__cpu_cfs_quota_us": "-1",
        f"{folder}__cpu_cfs_period_us": "100000",
    }
    cgroup = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n"
    assert cores(machine(tmp_path, cgroup, **files)) == 3


def test_a_container_that_shows_the_hosts_path_is_asked_at_its_own_root(tmp_path: Path) -> None:
    files = {"cpu__cpu_cfs_quota_us": "200000", "cpu__cpu_cfs_period_us": "100000"}
    assert cores(machine(tmp_path, "4:cpu,cpuacct:/docker/abc\n", **files)) == 2


def test_a_path_outside_the_namespace_is_asked_at_the_root(tmp_path: Path) -> None:
    assert cores(machine(tmp_path, "0::/../../other\n", cpu_max="200000 100000")) == 2


def test_stages_use_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.run.child_process.cores", lambda: 3)
    assert ChildProcess().threads == 3
    assert ChildProcess(threads=5).threads == 5


def test_the_set_up_builds_with_as_many() -> None:
    job = (
        "from pipeline.tools import cores; cores.cores = lambda: 3\n"
        "from pipeline.setup import llama, ollama, step; print(step.CORES)"
    )
    run = subprocess.run([sys.executable, "-c", job], capture_output=True, text=True, check=True)
    assert run.stdout == "3\n"
