"""The lines of a text file as UTF-8, whatever editor or export it comes from.

UTF-8 with and without a byte order mark, UTF-16 and UTF-32 with one, UTF-16 without where its first
character shows it; lines that end in LF, CR LF or CR. Standard library only.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path

from pipeline.common.errors import BadInput

HEAD = 4096  # bytes that tell what a file is
MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"{\0", "utf-16-le"),
    (b"\0{", "utf-16-be"),
)
BINARY = {  # how files begin that people have instead
    b"PK\x03\x04": "a zip file, as Excel and Word write them",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "packed with gzip",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
    b"%PDF": "a PDF",
    b"SQLite format 3": "a SQLite database",
}


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each line in UTF-8 with its number from 1. Bytes that are not UTF-8 are left as they are.

    Raises:
        BadInput: the file cannot be read, or is no text.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            file.seek(0)
            encoding = next((name for mark, name in MARKS if head.startswith(mark)), None)
            if encoding is None:
                _refuse_binary(path, head)
            if encoding or (b"\r" in head and b"\n" not in head):
                yield from _decoded(file, encoding or "utf-8-sig")
                return
            for number, line in enumerate(file, start=1):
                yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path}: broken {error.encoding.upper()} ({error.reason})", "Save the file as UTF-8."
        ) from error
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}", "Check the file's permissions.") from error


def _decoded(file: io.BufferedReader, encoding: str) -> Iterator[tuple[int, bytes]]:
    """Lines of another encoding, or that end in CR alone; wrong bytes of UTF-8 stay wrong."""
    wrong = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    with io.TextIOWrapper(file, encoding=encoding, errors=wrong, newline=None) as text:
        for number, line in enumerate(text, start=1):
            yield number, line.encode("utf-8", errors=wrong)


def _refuse_binary(path: Path, head: bytes) -> None:
    kind = next((name for start, name in BINARY.items() if head.startswith(start)), "")
    if kind or b"\0" in head:
        raise BadInput(
            f"{path} is a binary file{f' ({kind})' if kind else ''}, not JSON lines",
            "Export or save the conversations as JSON lines, in UTF-8.",
        )
