"""The set-up of the tests has a browser, or says why not; it never fails for want of one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.common import places
from pipeline.setup import browser, run


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Debian with nothing but an apt-get that notes how it was called."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "os-release").write_text('PRETTY_NAME="Debian"\nID=debian\n')
    monkeypatch.setattr(browser, "SYSTEM", tmp_path / "os-release")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(run, "plan", lambda device, tests: [])
    monkeypatch.setattr(run.needs, "check", lambda steps: None)
    (tmp_path / "bin").mkdir()
    for name in ("env", "sh", "chmod", "touch"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def apt_get(machine: Path, script: str) -> None:
    file = machine / "bin" / "apt-get"
    file.write_text(f'#!/bin/sh\necho "$@" >> {machine}/called\n{script}\n')
    file.chmod(0o755)


def set_up(capsys: pytest.CaptureFixture[str]) -> str:
    run.set_up("auto", browser=True)
    return capsys.readouterr().out


def test_on_debian_it_is_installed_once(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = machine / "bin" / "chromium"
    apt_get(machine, f'case "$*" in *install*) touch {made}; chmod +x {made};; esac')
    assert "Chromium" in set_up(capsys)
    assert browser.found() == made
    called = (machine / "called").read_text().splitlines()
    assert [line.rpartition("=20 ")[2] for line in called] == [
        "update",
        "install -y --no-install-recommends chromium",
    ]
    assert set_up(capsys) == ""


def test_a_failed_attempt_is_said_is_no_error_and_is_not_made_again_at_once(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apt_get(machine, "echo 'E: no network' >&2; exit 100")
    assert "Chromium could not be installed" in set_up(capsys)
    said = set_up(capsys)
    assert said.startswith("No Chromium here, and installing it failed today")
    assert said.rstrip().endswith("apt-get install chromium")
    assert len((machine / "called").read_text().splitlines()) == 1
    os.utime(places.cache_home() / "no-chromium", (0, 0))
    assert "could not be installed" in set_up(capsys)


def test_where_it_cannot_be_installed_that_is_a_sentence(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "this is no Debian" in set_up(capsys)  # no apt-get
    apt_get(machine, "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "installing it needs root" in set_up(capsys)
    (machine / "os-release").write_text("ID=ubuntu\nID_LIKE=debian\n")
    assert "this is no Debian" in set_up(capsys)
    assert not (machine / "called").exists()


def test_without_tests_nobody_looks_for_one(machine: Path) -> None:
    apt_get(machine, "")
    run.set_up("auto")
    assert not (machine / "called").exists()
