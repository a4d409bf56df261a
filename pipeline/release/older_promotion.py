"""A promotion that a program of before there were versions began, and that broke off.

    NAME:candidate-…   what was proven, and its manifest's digest
    NAME:spare-…       what NAME:previous was, until NAME had moved

Its journal has the format 1. All is made as it was, unless NAME has moved; what is there then is
taken over.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from pipeline.common.names import full
from pipeline.common.values import write_json
from pipeline.release import history
from pipeline.release.older import FORMAT, Record
from pipeline.release.tags import PREVIOUS, copy
from pipeline.tools.ollama import Ollama


class Journal(BaseModel):
    """What such a release was about to change in Ollama, and what was there before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    server: str
    candidate: str
    spare: str
    moves: bool = False
    """True from when tags of NAME were changed."""
    new: str | None = None
    """Digest of the manifest that NAME was to have."""
    latest: str | None = None
    """That of NAME before."""
    previous: str | None = None
    """That of NAME:previous before."""
    record: Record | None = None
    """The record before."""

    @property
    def leftovers(self) -> list[str]:
        """Tags to be removed."""
        return [self.candidate, self.spare]

    @property
    def stages(self) -> set[str]:
        """Stage directories that only the journal may name."""
        return {*self.record.stages, *self.record.earlier} if self.record else set()


def undo(name: str, ollama: Ollama, journal: Journal) -> None:
    """Make NAME, NAME:previous and the record what they were, unless NAME has moved."""
    latest, previous = full(name), full(name, PREVIOUS)
    now = ollama.digest(latest)
    if not journal.moves or now == journal.new:
        return
    if now in (None, journal.latest):  # else somebody else has taken the name meanwhile
        if now is None and ollama.digest(previous) == journal.latest is not None:
            copy(ollama, previous, latest, journal.latest)
        if ollama.exists(journal.spare) and journal.previous:
            copy(ollama, journal.spare, previous, journal.previous)
        elif journal.previous is None and ollama.digest(previous) == journal.latest is not None:
            ollama.delete(previous)
    if journal.record:
        write_json(history.file(name), journal.record.model_dump(mode="json"))
    else:
        history.file(name).unlink(missing_ok=True)
