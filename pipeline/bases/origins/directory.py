"""A Hugging Face directory of the user's: `./dir`, known by the content of its files."""

from __future__ import annotations

from pathlib import Path

from pipeline.bases import checkpoint
from pipeline.bases.located import FORMS, Located, Origin, Report, digests
from pipeline.common.digests import unread
from pipeline.common.errors import BadInput
from pipeline.common.progress import Progress
from pipeline.common.values import digest_of

LARGE = 1 << 30  # bytes: less is read in a moment


def locate(text: str, beside: Path, report: Report) -> Located:
    """The directory at a path.

    Raises:
        BadInput: there is none, or it is no base that can be tuned and served.
    """
    folder = (beside / Path(text).expanduser()).resolve()
    if not folder.exists():
        raise BadInput(f"FROM {text}: {folder} does not exist", FORMS)
    if not folder.is_dir():
        raise BadInput(f"FROM {text}: {folder} is a file, not a directory", FORMS)
    checkpoint.check(folder)  # before its weights are read for the digest
    files = read_once(folder, checkpoint.declared(folder), report, folder.name)
    return Located(
        origin=ORIGIN.name,
        format="huggingface",
        name=folder.name,
        digest=digest_of(files),
        path=folder,
        files=files,
    )


def read_once(folder: Path, names: list[str], report: Report, called: str) -> dict[str, str]:
    """A digest for each file; the bytes of files that were never seen are reported."""
    total, done = unread(folder / name for name in names), 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        if total > LARGE:
            report(Progress(done, total, f"reading {called} once"))

    return digests(folder, names, read)


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~/")) or text in (".", "..", "~")


ORIGIN = Origin("directory", means=_is_path, locate=locate)
