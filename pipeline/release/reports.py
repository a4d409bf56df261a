"""The reports of versions, in `<home>/reports`: what can be written again, for its owner alone.

NAME-v3.html                what `specialist report NAME v3` writes
NAME-v3-without-rows.html   the copy to share
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.common import places
from pipeline.release.history import History

_NAME = re.compile(r"(.+)-v([1-9][0-9]*)(-without-rows)?\.html")


def folder() -> Path:
    """Where they lie."""
    return places.home() / "reports"


def file(name: str, version: int, *, rows: bool = True) -> Path:
    """The report of a version; Ollama's names know no capitals."""
    return folder() / f"{name.lower()}-v{version}{'' if rows else '-without-rows'}.html"


def stale(known: Iterable[History]) -> list[Path]:
    """Those of versions that were removed, or forgotten with their name."""
    there = {(one.name.lower(), each.version) for one in known for each in one.there}
    found = ((path, _NAME.fullmatch(path.name)) for path in sorted(folder().glob("*.html")))
    return [path for path, of in found if of and (of[1], int(of[2])) not in there]
