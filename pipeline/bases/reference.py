"""What FROM points at: a base by origin and content, found in milliseconds, nothing downloaded."""

from __future__ import annotations

from pathlib import Path

from pipeline.bases.formats import FORMATS
from pipeline.bases.located import Facts, Located, Report, digests
from pipeline.bases.origins import ORIGINS
from pipeline.common.errors import BadInput

__all__ = ["Reference", "Report", "refuse_if_changed", "resolve"]


class Reference(Located, Facts):
    """A base that was found, and what is known of it: `fetch` makes a Base of it."""


def resolve(text: str, beside: Path, report: Report = lambda progress: None) -> Reference:
    """The base that `FROM text` means.

    Args:
        text: what follows FROM.
        beside: the folder that relative paths start from (the Modelfile's).
        report: told how much of a large base is read, which happens once.

    Raises:
        BadInput: a form that this version does not take, or a base that cannot be used.
        Missing: the embedded base is not on this machine.
    """
    origin = next(origin for origin in ORIGINS if origin.means(text))
    located = origin.locate(text, beside, report)
    facts = origin.facts or FORMATS[located.format].facts(located.path)
    return Reference(**located.model_dump(), **facts.model_dump())


def refuse_if_changed(reference: Reference) -> None:
    """See that a base's files are still those that were found.

    Raises:
        BadInput: one is not.
    """
    names = FORMATS[reference.format].files(reference.path)
    if digests(reference.path, names) != reference.files:
        raise BadInput(
            f"{reference.path} changed while it was read", "Run again when it is at rest."
        )
