"""What follows FROM: `hub:ORG/NAME@COMMIT`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.common.errors import BadInput
from pipeline.common.foreign import shown

PREFIX = "hub:"
_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}"
_FORM = re.compile(rf"({_PART})/({_PART})(?:@(.*))?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Repository:
    """A repository at a commit, or at what may become another one."""

    owner: str
    name: str
    revision: str
    """A commit, a branch or a tag; '' if none is named."""

    @property
    def id(self) -> str:
        """`ORG/NAME`."""
        return f"{self.owner}/{self.name}"

    @property
    def commit(self) -> str:
        """The 40 hex digits; '' for anything else."""
        low = self.revision.lower()
        return low if _COMMIT.fullmatch(low) else ""

    @property
    def text(self) -> str:
        """As it follows FROM."""
        return self.at(self.revision) if self.revision else f"{PREFIX}{self.id}"

    def at(self, revision: str) -> str:
        """As it follows FROM with another revision."""
        return f"{PREFIX}{self.id}@{revision}"


def parse(text: str) -> Repository:
    """The repository that a text names.

    The hub itself allows no `--` and no `..` in a name: a folder can be called ORG--NAME--COMMIT.

    Raises:
        BadInput: it is not of this form.
    """
    found = _FORM.fullmatch(text[len(PREFIX) :])
    revision = (found[3] or "") if found else ""
    if (
        not found
        or any(odd in part for odd in ("--", "..") for part in (found[1], found[2]))
        or (revision and not _REVISION.fullmatch(revision))
        or ".." in revision
    ):
        raise BadInput(
            f"FROM {shown(text)}: that is not of the form hub:ORG/NAME@COMMIT",
            "As in: FROM hub:HuggingFaceTB/SmolLM2-135M-Instruct@ and the 40 digits of a commit.",
        )
    return Repository(found[1], found[2], revision)
