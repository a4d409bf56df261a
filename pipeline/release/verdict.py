"""The verdict on a candidate that is proven: whether it takes the name.

The proof says that a model is served as it was trained. Whether it is good enough to be served is
another question: who judges is told by the caller, what was decided is in the version's record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.made.artifacts import Specialist
from pipeline.release.candidate import Candidate
from pipeline.release.proof import Proof


class Check(BaseModel):
    """One question that a verdict is made of."""

    model_config = ConfigDict(frozen=True)
    name: str
    found: Literal["good", "open", "bad"]
    """open: not shown either way."""
    blocks: bool
    """True where it keeps the candidate from being served."""
    sentence: str
    """What was found, with its interval."""
    next_step: str = ""
    """What to do, where it is not good."""


class Verdict(BaseModel):
    """What was decided, and why."""

    model_config = ConfigDict(frozen=True)
    says: Literal["go", "go with open questions", "stop"] = "go"
    reasons: tuple[str, ...] = ()
    """The open questions, or what speaks against it; a sentence each."""
    checks: tuple[Check, ...] = ()
    worst: tuple[str, ...] = ()
    """The rows that speak most against it, for people."""
    because: str = ""
    """Why the user serves it although it says stop."""

    @property
    def stopped(self) -> bool:
        """True where it is not to be served."""
        return self.says == "stop" and not self.because


Judge = Callable[[Specialist, Candidate, Proof], Verdict]


def verdict(checks: Sequence[Check], worst: Sequence[str] = ()) -> Verdict:
    """What follows from the checks.

    Args:
        worst: rows to be shown where it says stop.
    """
    against = [check for check in checks if check.blocks]
    doubts = [check for check in checks if check.found != "good" and not check.blocks]
    if against:
        said = tuple(check.sentence for check in against)
        return Verdict(says="stop", reasons=said, checks=tuple(checks), worst=tuple(worst))
    said = tuple(check.sentence for check in doubts)
    return Verdict(
        says="go with open questions" if doubts else "go", reasons=said, checks=tuple(checks)
    )


def judge(made: Specialist, candidate: Candidate, proof: Proof) -> Verdict:
    """Go: whatever is proven is served. For who asks no more."""
    return Verdict()
