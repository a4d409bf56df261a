"""A GGUF that llama.cpp opens, of one that only Ollama's patched llama.cpp does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.bases import families
from pipeline.bases.gguf_keys import Keys
from pipeline.bases.text_part import TextPart, text_part
from pipeline.common.errors import BadInput
from pipeline.tools.gguf_header import Entry, header, padding
from pipeline.tools.gguf_layout import Place, layout

CHUNK = 1 << 24  # bytes copied at once


@contextmanager
def text_file(
    paths: Sequence[Path], part: TextPart, scratch: Path, *, weights: bool
) -> Iterator[Path]:
    """The language model alone: the file itself where it is nothing else, else a copy for a while.

    Args:
        paths: the file, or the files that it is split into.
        scratch: a folder for the copy.
        weights: needed as well, or the keys only.
    """
    if part.plain:
        yield paths[0]
        return
    scratch.mkdir(parents=True, exist_ok=True)
    copy = scratch / "text.gguf"
    try:
        with copy.open("wb") as file:
            _write(file, paths, part.keys, part.tensors if weights else {})
        yield copy
    finally:
        copy.unlink(missing_ok=True)


@contextmanager
def opened_by_llama(path: Path, scratch: Path, *, weights: bool) -> Iterator[Path]:
    """As `text_file`, of any file that we made or Ollama stored.

    Raises:
        BadInput: a family that is not known.
    """
    found = layout(path)
    name = Keys(path, found).architecture
    family = families.of_gguf(name)
    if family is None or family.gguf is None:  # made of a directory: plain
        yield path
        return
    with text_file([path], text_part(found, family.gguf), scratch, weights=weights) as plain:
        yield plain


def _write(
    file: IO[bytes], paths: Sequence[Path], keys: dict[str, bytes], places: Mapping[str, Place]
) -> None:
    entries = [Entry(n, place.kind, (*reversed(place.shape),)) for n, place in places.items()]
    file.write(header(keys, entries))
    files = [path.open("rb") for path in paths]
    try:
        for place in places.values():
            source, left = files[place.part], place.size
            source.seek(place.start)
            while left:
                chunk = source.read(min(left, CHUNK))
                if not chunk:
                    raise BadInput(f"{paths[place.part]} is cut off", "Get the file again.")
                file.write(chunk)
                left -= len(chunk)
            file.write(bytes(padding(place.size)))
    finally:
        for source in files:
            source.close()
