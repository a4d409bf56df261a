"""The verdict on a candidate that is proven: whether it takes the name.

The proof says that a model is served as it was trained. Whether it is good enough to be served is
another question, and this is the place for it; nothing asks it yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.made.artifacts import Specialist
from pipeline.release.proof import Proof


class Check(BaseModel):
    """One question that was asked of a candidate, and what was found."""

    model_config = ConfigDict(frozen=True)
    name: str
    found: Literal["good", "open", "bad"]
    """Shown good, not shown either way, shown bad."""
    blocks: bool
    """It keeps the candidate from taking the name."""
    sentence: str
    next_step: str = ""


class Verdict(BaseModel):
    """What was decided, and why."""

    model_config = ConfigDict(frozen=True)
    says: Literal["go", "go with open questions", "stop"] = "go"
    reasons: tuple[str, ...] = ()
    """The open questions, or what speaks against it; a sentence each."""
    checks: tuple[Check, ...] = ()


Judge = Callable[[Specialist, Proof], Verdict]


def judge(made: Specialist, proof: Proof) -> Verdict:
    """Go: whatever is proven is served."""
    return Verdict()
