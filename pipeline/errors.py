"""The one error tree that people see: what happened, and what to do next.

PipelineError
├── BadInput        the user's file, flag or name is at fault (found before long work starts)
├── Missing         something on this machine is absent or stopped
├── ToolFailed      a foreign program or library failed
└── ProofFailed     what is served is not what was trained; nothing was promoted

Anything else that escapes is a bug of ours and keeps its trace.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

WITH_MAKE = "(With make: DATA=, NAME=, BASE= and DEVICE=; any other flag inside ARGS='…'.)"


class PipelineError(Exception):
    """An error for people: `str(error)` says what happened and where, `next_step` what to do."""

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(
            what, next_step
        )  # both, so that the error survives the way out of a child process
        self.what = what
        self.next_step = next_step

    def __str__(self) -> str:
        return self.what

    def told(self, environ: Mapping[str, str] = os.environ) -> str:
        """The lines that people see; they are shown flags, and make takes them otherwise."""
        lines = [f"Error: {self.what}", self.next_step]
        lines += [WITH_MAKE] if "MAKELEVEL" in environ and "--" in self.next_step else []
        return "\n  ".join(filter(None, lines))


class BadInput(PipelineError):
    """The user's file, flag or name is at fault."""


class Missing(PipelineError):
    """Something on this machine is absent or stopped."""


class ToolFailed(PipelineError):
    """A foreign program or library failed."""


class ProofFailed(PipelineError):
    """What is served is not what was trained."""
