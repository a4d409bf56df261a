"""What makes a GGUF the base that it is: the same weights are the same base, however they lie.

Ollama writes tensors and keys in another order, files are split, a name is given anew: none of this
is another base. So its digest is over sorted keys and over each tensor's type, shape and bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.common.digests import file_digest, kept
from pipeline.common.values import digest_of
from pipeline.tools.gguf_layout import Layout, Place, layouts

_CHUNK = 1 << 24  # bytes read at once
_DECIDES = "general.architecture"
_SAYS_NOTHING = ("general.", "split.")
"""Beginnings of keys of names, authors, links, file types: nothing is computed by them."""


def identity(paths: Sequence[Path], read: Callable[[int], object] = lambda count: None) -> str:
    """A digest that changes neither with the order of keys and tensors nor with the files' names.

    Args:
        paths: the file, or all that it is split into.
        read: told after each block that had to be read how many bytes it had.

    Raises:
        ToolFailed: a file is no whole GGUF.
    """
    return kept(paths[0], "content", lambda: _identity(layouts(paths), read), paths[1:])


def _identity(found: Layout, read: Callable[[int], object]) -> str:
    keys = {
        name: hashlib.sha256(raw).hexdigest()
        for name, raw in found.keys.items()
        if name == _DECIDES or not name.startswith(_SAYS_NOTHING)
    }
    tensors = {n: [p.kind, *p.shape, _bytes(found, p, read)] for n, p in found.tensors.items()}
    return digest_of({"keys": keys, "tensors": tensors})


def _bytes(found: Layout, place: Place, read: Callable[[int], object]) -> str:
    digest = hashlib.sha256()
    for start in range(0, place.size, _CHUNK):
        chunk = found.read(place, start, start + _CHUNK)
        digest.update(chunk)
        read(len(chunk))
    return digest.hexdigest()


def with_more(content: str, more: Mapping[str, object]) -> str:
    """The digest of a base that is more than its file; the same where it is not."""
    given = {name: value for name, value in more.items() if value}
    return digest_of({"gguf": content, **given}) if given else content


def digests_of(
    paths: Sequence[Path], read: Callable[[int], object] = lambda count: None
) -> dict[str, str]:
    """sha256 of each file by name."""
    return {path.name: file_digest(path, read) for path in paths}
