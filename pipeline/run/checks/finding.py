"""What a check found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.common.errors import PipelineError

Verdict = Literal["ok", "warn", "fail"]


class Finding(BaseModel):
    """One line of the doctor."""

    model_config = ConfigDict(frozen=True)

    what: str
    """That was looked at."""
    verdict: Verdict
    """warn: it works, and not as well as it could; fail: `make` would fail."""
    found: str
    mend: str = ""
    """The command that mends it, or what else to do; '' where it is well."""


def ok(what: str, found: str) -> Finding:
    """It is well."""
    return Finding(what=what, verdict="ok", found=found)


def warn(what: str, found: str, mend: str) -> Finding:
    """It works, and should be known."""
    return Finding(what=what, verdict="warn", found=found, mend=mend)


def fail(what: str, found: str, mend: str) -> Finding:
    """`make` would fail."""
    return Finding(what=what, verdict="fail", found=found, mend=mend)


def tried(what: str, look: Callable[[], Finding]) -> Finding:
    """The finding; an error of ours is one too."""
    try:
        return look()
    except PipelineError as error:
        return fail(what, error.what, error.next_step)
    except OSError as error:
        return fail(
            what, f"{error.filename or what}: {error.strerror or error}", "See to the file."
        )
