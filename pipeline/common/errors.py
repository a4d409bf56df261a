"""The one error tree that people see: what happened, and what to do next.

PipelineError
├── BadInput        the user's file, flag or name is at fault (found before long work starts)
│   ├── BadRows     several faults of one file of conversations, shown together
│   └── Unpinned    a base of the hub without a commit; the one that it is at now is known
├── Missing         something on this machine is absent or stopped
│   └── NotDownloaded   a base of the hub, whose download was not allowed
├── ToolFailed      a foreign program or library failed
├── Unreadable      a record of ours is damaged or of another format; it and what it names stay
├── ProofFailed     what is served is not what was trained; nothing was promoted
└── Stopped         it is served as it was trained, and is not to be served; nothing was promoted

Anything else that escapes is a bug of ours and keeps its trace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

WITH_MAKE = "(With make: DATA=, NAME=, BASE= and DEVICE=; any other flag inside ARGS='…'.)"
SHOWN = 20  # faults of a file of conversations; --json lists all


class PipelineError(Exception):
    """An error for people: `str(error)` says what happened and where, `next_step` what to do."""

    exit_code = 1

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
        flags = "--" in self.next_step and "ARGS=" not in self.next_step
        lines += [WITH_MAKE] if "MAKELEVEL" in environ and flags else []
        return "\n  ".join(filter(None, lines))

    def each(self) -> Sequence[PipelineError]:
        """The faults that it is made of; most errors are one."""
        return [self]

    def listed(self) -> list[dict[str, str | int]]:
        """Every fault as JSON takes it: `what`, `next_step`, and `file` and `line` where known."""
        found: list[dict[str, str | int]] = []
        for fault in self.each():
            place = re.match(r"(.+?):(\d+): ", fault.what, re.DOTALL)
            where = {"file": place[1], "line": int(place[2])} if place else {}
            found.append({**where, "what": fault.what, "next_step": fault.next_step})
        return found


class BadInput(PipelineError):
    """The user's file, flag or name is at fault."""


class BadRows(BadInput):
    """Several faults: a line of `what` and a line of `next_step` for each, in the file's order.

    Two texts, as every error has: so it survives the way out of a child process.
    """

    @classmethod
    def of(cls, faults: Sequence[PipelineError]) -> BadInput:
        """The faults as one error; a single one as it is."""
        if len(faults) == 1:
            return BadInput(faults[0].what, faults[0].next_step)
        return cls(
            "\n".join(" ".join(fault.what.splitlines()) for fault in faults),
            "\n".join(" ".join(fault.next_step.splitlines()) for fault in faults),
        )

    def each(self) -> Sequence[PipelineError]:
        """The faults, in the file's order."""
        pairs = zip(self.what.split("\n"), self.next_step.split("\n"), strict=True)
        return [BadInput(what, next_step) for what, next_step in pairs]

    def told(self, environ: Mapping[str, str] = os.environ) -> str:
        """The first faults with their places, and what to do under each group of them."""
        faults = self.each()
        groups: dict[str, list[str]] = {}
        for fault in faults[:SHOWN]:
            groups.setdefault(fault.next_step, []).append(fault.what)
        lines = [f"Error: {len(faults)} faults in the conversations"]
        for next_step, whats in groups.items():
            lines += [*whats, f"  {next_step}"]
        if len(faults) > SHOWN:
            lines.append(f"… and {len(faults) - SHOWN} more; add --json to see all of them.")
        if "MAKELEVEL" in environ and any("--" in line for line in lines):
            lines.append(WITH_MAKE)
        return "\n  ".join(lines)


class Unpinned(BadInput):
    """A base that is named by what may change."""

    def __init__(self, what: str, next_step: str, pinned: str) -> None:
        super().__init__(what, next_step)
        self.pinned = pinned
        """The same base as it is now, by its commit."""


class Missing(PipelineError):
    """Something on this machine is absent or stopped."""


class NotDownloaded(Missing):
    """A base that can be had from the hub, where the user allows it."""


class ToolFailed(PipelineError):
    """A foreign program or library failed."""


class Unreadable(PipelineError):
    """A record of ours cannot be read: it stays as it is, and so does what it names."""


class OtherFormat(Unreadable):
    """A record that another version of this program wrote."""


class ProofFailed(PipelineError):
    """What is served is not what was trained."""


class Stopped(PipelineError):
    """A verdict: what is proven does not take the name."""

    exit_code = 3
