"""One file of a repository: it goes on where it was, however the last run ended.

FILE.part       what has come so far
FILE.part.json  of which content it is, and by which ETag the server knew it
FILE            all of it, checked; FILE.part.json stays, and says against which content
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import httpx
from pydantic import BaseModel

from pipeline.bases.hub.door import Door
from pipeline.bases.hub.patience import Passing, patiently
from pipeline.bases.hub.refusals import AGAIN
from pipeline.bases.hub.tree import Entry, address
from pipeline.common import private, records
from pipeline.common.errors import ToolFailed, Unreadable
from pipeline.common.values import BLOCK, sync, write_json

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Begun(BaseModel):
    """What a partial file is of."""

    format: int = records.FORMAT
    content: str
    """Its digest when it is whole, as the tree has it."""
    etag: str = ""
    """Strong ones only: by a weak one nothing can be continued."""


def download(
    door: Door,
    entry: Entry,
    folder: Path,
    at: Callable[[int], object],
    told: Callable[[str], object],
) -> None:
    """Have a file in a folder, all of it and as the tree says.

    Args:
        at: told how many bytes of it are there.
        told: told of what went wrong and is tried again.

    Raises:
        PipelineError: the hub refuses it, or its bytes were twice not those of the tree.
    """
    part = _part(folder, entry)
    if _whole(folder, entry):
        return
    for _ in range(2):
        arrived = Arrived(at, present(folder, entry))
        patiently(lambda a=arrived: _once(door, entry, part, a), told, lambda a=arrived: a.furthest)  # type: ignore[misc]
        if _as_said(part, entry):
            sync(part)
            part.rename(folder / entry.name)
            return
        told(f"{entry.name} has other bytes than the commit says")
        part.unlink()
        _note(part).unlink(missing_ok=True)
        at(0)
    raise ToolFailed(
        f"{door.repository.text}: {entry.name} came twice with wrong bytes, and was removed",
        "A proxy or a mirror (HF_ENDPOINT) may change it; run again, or take another way.",
    )


def present(folder: Path, entry: Entry) -> int:
    """Bytes of a file that are there already."""
    if _whole(folder, entry):
        return entry.size
    part = _part(folder, entry)
    return part.stat().st_size if _goes_on(part, entry) else 0


class Arrived:
    """How far a file has come in all tries together: what comes a second time is no progress."""

    def __init__(self, at: Callable[[int], object], have: int) -> None:
        self._at = at
        self.furthest = have

    def at(self, have: int) -> None:
        """So many bytes of it are there now."""
        self.furthest = max(self.furthest, have)
        self._at(have)


def _once(door: Door, entry: Entry, part: Path, arrived: Arrived) -> None:
    """One try: ask for what is missing, and write what comes."""
    begun = _known(part, entry) if _goes_on(part, entry) else None
    if begun is None:  # nothing is there, or it is of something else
        part.unlink(missing_ok=True)
        begun = Begun(content=_content(entry))
    have = part.stat().st_size if part.exists() else 0
    if have == entry.size and part.exists():
        return
    asked = {"Range": f"bytes={have}-"} if have else {}
    asked |= {"If-Range": begun.etag} if have and begun.etag else {}
    with door.get(address(door, entry), asked) as answer:
        if not _continues(answer, begun, have, entry.size):
            have = 0
            part.unlink(missing_ok=True)
            if answer.status_code != 200:
                raise Passing(f"{entry.name} cannot be continued there", AGAIN, wait=0.0)
            etag = answer.headers.get("etag", "")
            begun = Begun(content=_content(entry), etag="" if etag.startswith("W/") else etag)
            write_json(_note(part), begun.model_dump(mode="json"))
        _write(answer, part, have, entry, arrived)


def _write(answer: httpx.Response, part: Path, have: int, entry: Entry, arrived: Arrived) -> None:
    """What comes, as it comes: a kill loses nothing of it. Never more than the file has."""
    arrived.at(have)
    with open(part, "ab", buffering=0, opener=private.opener) as file:
        for block in answer.iter_raw():
            kept = memoryview(block)[: entry.size - have]
            have += len(kept)
            while kept:
                kept = kept[file.write(kept) :]
            arrived.at(have)
            if have == entry.size:
                return
    if have < entry.size:
        raise Passing(f"{entry.name} ended early", AGAIN)


def _continues(answer: httpx.Response, begun: Begun, have: int, size: int) -> bool:
    """True if the body is what is missing of the very file that was begun."""
    if answer.status_code != 206 or not have:
        return False
    etag = answer.headers.get("etag", "")
    found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
    same = not begun.etag or not etag or etag == begun.etag
    return bool(found) and same and (int(found[1]), int(found[3])) == (have, size)  # type: ignore[index]


def _known(part: Path, entry: Entry) -> Begun | None:
    """What is noted of a file, if it is of this content."""
    try:
        begun = records.read(_note(part), Begun)
    except Unreadable:  # it is only a memory
        return None
    return begun if begun and begun.content == _content(entry) else None


def _goes_on(part: Path, entry: Entry) -> bool:
    """True for a partial file of this content."""
    fits = part.is_file() and part.stat().st_size <= entry.size
    return fits and _known(part, entry) is not None


def _whole(folder: Path, entry: Entry) -> bool:
    """True for a file that came before and was checked against this very content."""
    file = folder / entry.name
    fits = file.is_file() and file.stat().st_size == entry.size
    return fits and _known(_part(folder, entry), entry) is not None


def _as_said(part: Path, entry: Entry) -> bool:
    """True if a file's bytes have the digest that the tree has of them."""
    if entry.sha256:
        digest, wanted = hashlib.sha256(), entry.sha256
    else:
        digest, wanted = hashlib.sha1(usedforsecurity=False), entry.blob
        digest.update(b"blob %d\0" % entry.size)
    with part.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest() == wanted


def _content(entry: Entry) -> str:
    return entry.sha256 or entry.blob


def _part(folder: Path, entry: Entry) -> Path:
    return folder / f"{entry.name}.part"


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")
