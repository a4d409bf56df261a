"""Digests are remembered by path, inode, size and time of change, and by nothing else."""

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.common import digests, places, values


@pytest.fixture(autouse=True)
def store(home, monkeypatch):
    monkeypatch.setattr(digests, "SETTLED", -1)  # every file here is older than a moment
    return home


def old_file(folder: Path, name: str, content: bytes) -> Path:
    """A file that was last changed an hour ago."""
    path = folder / name
    path.write_bytes(content)
    os.utime(path, (time.time() - 3600, time.time() - 3600))
    return path


def same_times(path: Path, content: bytes) -> None:
    """Write a file anew, with the times that it had: as `cp -p` and `rsync -t` do."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, told: object) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(digests, "digest_of_file", read)


def test_the_digest_is_the_sha256_of_the_bytes(tmp_path):
    path = old_file(tmp_path, "a", b"content")
    assert digests.file_digest(path) == hashlib.sha256(b"content").hexdigest()


def test_a_file_seen_before_is_not_read_again(tmp_path, monkeypatch):
    path = old_file(tmp_path, "a", b"content")
    first = digests.file_digest(path)
    forbid_reading(monkeypatch)
    assert digests.file_digest(path) == first


def test_a_changed_file_has_a_new_digest_even_with_its_old_size(tmp_path):
    path = old_file(tmp_path, "a", b"content")
    first = digests.file_digest(path)
    path.write_bytes(b"kontent")
    assert digests.file_digest(path) != first


def test_a_replaced_file_with_size_and_time_of_the_old_one_is_read_again(tmp_path):
    path = old_file(tmp_path, "a", b"content")
    first = digests.file_digest(path)
    other = old_file(tmp_path, "b", b"kontent")
    times = path.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(other, path)
    assert digests.file_digest(path) != first


def test_a_file_rewritten_with_its_old_times_is_read_again(tmp_path):
    path = old_file(tmp_path, "a", b"content")
    first = digests.file_digest(path)
    same_times(path, b"kontent")
    assert digests.file_digest(path) != first


def test_a_file_dated_in_the_future_is_remembered(tmp_path, monkeypatch):
    path = old_file(tmp_path, "a", b"content")
    os.utime(path, (time.time() + 1e6, time.time() + 1e6))
    first = digests.file_digest(path)
    forbid_reading(monkeypatch)
    assert digests.file_digest(path) == first


def test_what_has_to_be_read_is_told_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(values, "BLOCK", 4)
    path = old_file(tmp_path, "a", b"content")
    told = []
    assert digests.unread([path]) == 7
    digests.file_digest(path, told.append)
    digests.file_digest(path, told.append)
    assert told == [4, 3]
    assert digests.unread([path]) == 0


def test_a_file_that_was_changed_just_now_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "SETTLED", 2 * 10**9)
    path = tmp_path / "new"
    path.write_bytes(b"content")
    digests.file_digest(path)
    assert not (places.home() / "digests.json").exists()


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"/a": 3}', "\x00", "[" * 99999])
def test_a_damaged_memory_is_forgotten(tmp_path, damage):
    path = old_file(tmp_path, "a", b"content")
    places.home().mkdir(parents=True, exist_ok=True)
    (places.home() / "digests.json").write_text(damage)
    expected = hashlib.sha256(b"content").hexdigest()
    assert digests.file_digest(path) == expected
    assert json.loads((places.home() / "digests.json").read_text())[str(path)]["sha256"] == expected


def test_writers_at_the_same_time_keep_each_others_entries(tmp_path):
    paths = [old_file(tmp_path, f"f{i}", bytes([i])) for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(digests.file_digest, paths))
    known = json.loads((places.home() / "digests.json").read_text())
    assert {str(path) for path in paths} == set(known)


def test_files_that_are_gone_are_forgotten(tmp_path):
    gone = old_file(tmp_path, "gone", b"1")
    digests.file_digest(gone)
    gone.unlink()
    kept = old_file(tmp_path, "kept", b"2")
    digests.file_digest(kept)
    assert list(json.loads((places.home() / "digests.json").read_text())) == [str(kept)]


def test_a_memory_that_cannot_be_written_costs_time_only(tmp_path, store):
    (store / "digests.json").mkdir(parents=True)
    path = old_file(tmp_path, "a", b"content")
    assert digests.file_digest(path) == hashlib.sha256(b"content").hexdigest()
