"""What a repository has at a commit: names, sizes and digests, before anything of it is downloaded.

    GET /api/models/ORG/NAME/tree/COMMIT    a JSON list, in pages (Link: rel="next")

A stranger wrote it: bounded, each entry checked, and a name with a folder in it is none of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urljoin

import httpx
from pydantic import BaseModel, ConfigDict

from pipeline.bases.hub.door import Door
from pipeline.bases.hub.patience import patiently
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.common.foreign import read_object, shown

PAGES = 20
PAGE = 4 << 20  # bytes; a thousand entries have half a million
LARGEST = 1 << 40  # bytes of a file
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_SHA1, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")


class Entry(BaseModel):
    """A file at a commit."""

    model_config = ConfigDict(frozen=True)

    name: str
    size: int
    sha256: str = ""
    """Of a large file (LFS)."""
    blob: str = ""
    """Of a small one: git's sha1 over `blob SIZE`, a zero byte and the content."""


def tree(door: Door, told: Callable[[str], object]) -> dict[str, Entry]:
    """The files at the top of a repository at its commit, by name.

    Raises:
        PipelineError: the hub refuses, or what it says is no tree.
    """
    where = f"/api/models/{door.repository.id}/tree/{door.repository.commit}"
    url = f"{door.hub.url}{where}?recursive=false&expand=false"
    found: dict[str, Entry] = {}
    for _ in range(PAGES):
        items, following = patiently(lambda url=url: _page(door, url), told)  # type: ignore[misc]
        for entry in filter(None, map(_entry, items)):
            if entry.name in found:
                raise _odd(f"{entry.name} stands in it twice")
            found[entry.name] = entry
        if not following:
            return found
        url = following
    raise BadInput(
        f"{door.repository.id} has more files than a model has", "Take a repository of one model."
    )


def commit_of(door: Door, told: Callable[[str], object]) -> str:
    """The commit that a branch or a tag is at now.

    Raises:
        PipelineError: the hub refuses, or there is none of that name.
    """
    revision = quote(door.repository.revision or "main", safe="")
    url = f"{door.hub.url}/api/models/{door.repository.id}/revision/{revision}"
    raw = patiently(lambda: _read(door, url)[0], told)
    try:
        commit = read_object(raw).get("sha")
    except ValueError as error:
        raise _odd(str(error)) from error
    if not isinstance(commit, str) or not _SHA1.fullmatch(commit):
        raise _odd("it names no commit")
    return commit


def address(door: Door, entry: Entry) -> str:
    """Where a file of the repository is."""
    commit = door.repository.commit
    return f"{door.hub.url}/{door.repository.id}/resolve/{commit}/{quote(entry.name)}"


def _page(door: Door, url: str) -> tuple[list[Any], str]:
    """The entries of a page, and where the next one is."""
    raw, links = _read(door, url)
    try:
        items = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _odd("it is not JSON") from error
    if not isinstance(items, list):
        raise _odd("it is no list")
    target = links.get("next", {}).get("url", "")
    if not target:
        return items, ""
    try:
        following = urljoin(url, target)
    except ValueError as error:
        raise _odd("its next page has no address") from error
    if not door.hub.owns(following):
        raise _odd("its next page is on another host")
    return items, following


def _read(door: Door, url: str) -> tuple[bytes, dict[str, dict[str, str]]]:
    with door.get(url) as answer:
        raw = bytearray()
        for block in answer.iter_raw():  # as it came: what is packed could unfold to anything
            raw += block
            if len(raw) > PAGE:
                raise _odd(f"it has more than {PAGE} bytes")
        return bytes(raw), _links(answer)


def _links(answer: httpx.Response) -> dict[str, dict[str, str]]:
    return {str(name): value for name, value in answer.links.items() if name}


def _entry(item: Any) -> Entry | None:
    """A file at the top; None for folders, what is in them, and names that no model's file has."""
    if not isinstance(item, dict) or item.get("type") != "file":
        return None
    name, size, oid, large = (item.get(key) for key in ("path", "size", "oid", "lfs"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    if type(size) is not int or not 0 <= size <= LARGEST:
        raise _odd(f"the size of {name} is {shown(size, 30)}")
    if large is None:
        return Entry(name=name, size=size, blob=_digest(oid, _SHA1, name))
    if not isinstance(large, dict) or large.get("size") != size:
        raise _odd(f"{name} has two sizes")
    return Entry(name=name, size=size, sha256=_digest(large.get("oid"), _SHA256, name))


def _digest(value: object, form: re.Pattern[str], name: str) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _odd(f"{name} has no digest")
    return value


def _odd(why: str) -> ToolFailed:
    return ToolFailed(
        f"what the hub says of a repository cannot be used: {why}",
        "Look at HF_ENDPOINT: does it speak Hugging Face's protocol?",
    )
