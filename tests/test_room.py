"""A disk that a run would fill is named before it begins."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.common.errors import BadInput
from pipeline.run import room

BILLION = 1_000_000_000
Usage = namedtuple("Usage", "total used free")


def disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: Usage(free, 0, free))


def test_what_is_still_to_be_made_is_counted(tmp_path: Path) -> None:
    store, models = tmp_path / "store", tmp_path / "models"
    both = {"store": store, "models": models}
    all_of_it = room.needed(8 * BILLION, ["Q8_0", "Q4_K_M"], fetches=True, packs=True, **both)
    assert all_of_it[store] == pytest.approx(16e9 + 8.56e9 + 4.88e9, rel=0.01)
    assert all_of_it[models] == pytest.approx(8.56e9, rel=0.01)
    rest = room.needed(8 * BILLION, ["Q8_0"], fetches=False, packs=False, copies=2, **both)
    assert (rest[store], rest[models]) == (0, pytest.approx(17.12e9, rel=0.01))


def test_folders_of_one_disk_share_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, 12 * BILLION)
    room.check({tmp_path / "not/there": 5 * BILLION, tmp_path: 5 * BILLION})
    with pytest.raises(BadInput, match=r"needs 12\.6 GB in .*, 12\.0 GB are free") as caught:
        room.check({tmp_path / "not/there": 6 * BILLION, tmp_path: 6 * BILLION})
    assert "specialist gc" in caught.value.next_step


def test_nothing_to_write_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 0)
    room.check({tmp_path: 0})
