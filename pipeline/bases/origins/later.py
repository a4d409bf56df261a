"""Forms of FROM that are known, and not taken yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.bases.located import FORMS, Located, Origin, Report
from pipeline.common.errors import BadInput


def _not_yet(what: str) -> Callable[[str, Path, Report], Located]:
    def refuse(text: str, beside: Path, report: Report) -> Located:
        raise BadInput(f"FROM {text}: {what} yet", FORMS)

    return refuse


HUB = Origin(
    "hub",
    means=lambda text: text.lower().startswith("hub:"),
    locate=_not_yet("bases from the hub are not taken"),
)
