"""A GGUF file of the user's: `./model.gguf`, split ones by any of their parts."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.bases.formats import gguf
from pipeline.bases.gguf_identity import digests_of, identity
from pipeline.bases.located import FORMS, Located, Origin, Report
from pipeline.common.digests import unread
from pipeline.common.errors import BadInput
from pipeline.common.progress import Progress
from pipeline.tools.gguf_parts import parts

LARGE = 1 << 30  # bytes: less is read in a moment


def locate(text: str, beside: Path, report: Report) -> Located:
    """The file at a path.

    Raises:
        BadInput: there is none, or it is no base that can be tuned and served.
    """
    # not resolved: where parts are links, as in the hub's cache, only the links have their names
    path = Path(os.path.abspath(beside / Path(text).expanduser()))
    if not path.exists():
        raise BadInput(f"FROM {text}: {path} does not exist", FORMS)
    if not path.is_file():
        raise BadInput(f"FROM {text}: {path} is a folder, not a GGUF file", FORMS)
    found = parts(path)
    gguf.facts(found[0])  # before all of it is read for the digest
    digest, files = read_once(found, report)
    return Located(
        origin=ORIGIN.name,
        format="gguf",
        name=path.stem,
        digest=digest,
        path=found[0],
        files=files,
    )


def read_once(paths: list[Path], report: Report) -> tuple[str, dict[str, str]]:
    """Identity and digests of a GGUF's files; the reading of what was never seen is reported."""
    new = unread(paths)
    total, done = 2 * new, 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        if new > LARGE:
            report(Progress(min(done, total), total, f"reading {paths[0].name} once"))

    files = digests_of(paths, read)
    return identity(paths, read), files


ORIGIN = Origin("gguf", means=lambda text: text.lower().endswith(".gguf"), locate=locate)
