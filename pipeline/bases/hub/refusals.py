"""What the hub's refusals mean, in sentences.

Told by status and `X-Error-Code`, as huggingface_hub does (utils/_http.py). What the hub says in
words is never shown: it could be anything, a token that it was sent among it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pipeline.bases.hub.endpoint import Endpoint
from pipeline.bases.hub.patience import LONGEST, Passing
from pipeline.bases.hub.repository import Repository
from pipeline.common.errors import BadInput, PipelineError, ToolFailed
from pipeline.common.words import duration

AGAIN = "Run the same command again: it goes on where it was."
TOKEN = "set HF_TOKEN to a token that may read it (the hub's settings, Access Tokens)"


def refusal(
    status: int, headers: Mapping[str, str], repository: Repository, hub: Endpoint
) -> PipelineError | Passing:
    """What an answer of the hub's own host with such a status means."""
    code = headers.get("x-error-code", "")
    if status == 429:
        return _too_many(headers, hub)
    if status >= 500 or status == 408:
        what = f"the hub has a fault of its own ({status})"
        return Passing(what, f"Wait a while. {AGAIN}", _wait(headers))
    if status in (401, 403):
        return _no_right(code, repository, hub)
    if status == 404 and code == "RevisionNotFound":
        return BadInput(
            f"{repository.id} has no {_revision(repository)}",
            f"Its page lists what it has: {page(repository, hub)}/commits/main",
        )
    if status == 404 and code in ("RepoNotFound", ""):
        return _absent(repository, hub)
    return ToolFailed(f"the hub refused {repository.id} ({status})", f"Look at {hub.url}/")


def page(repository: Repository, hub: Endpoint) -> str:
    """Where people look at a repository."""
    return f"{hub.url}/{repository.id}"


def _revision(repository: Repository) -> str:
    kind = "commit" if repository.commit else "branch, tag or commit"
    return f"{kind} {repository.revision or 'main'}"


def _no_right(code: str, repository: Repository, hub: Endpoint) -> PipelineError:
    seen = bool(hub.token) and hub.closed
    if code == "GatedRepo":
        terms = f"Accept the terms at {page(repository, hub)}"
        return BadInput(
            f"{repository.id} is gated: its authors give it to those who accepted their terms"
            + (", and this token's owner did not" if seen else ""),
            f"{terms} with the token's account, then run again."
            if seen
            else f"{terms}, {TOKEN}, then run again.{_withheld(hub)}",
        )
    if code == "DisabledRepo":
        return BadInput(
            f"the hub has closed {repository.id}",
            f"See {page(repository, hub)}, or take another base.",
        )
    return _absent(repository, hub)


def _absent(repository: Repository, hub: Endpoint) -> PipelineError:
    """The hub does not tell a repository that is missing from one that is private."""
    if hub.token and hub.closed:
        return BadInput(
            f"there is no repository {repository.id}, or the token may not read it",
            f"See {page(repository, hub)}; is the token (HF_TOKEN, or its file) still valid?",
        )
    return BadInput(
        f"there is no repository {repository.id}, or it is private",
        f"See {page(repository, hub)}; if it is private, {TOKEN}.{_withheld(hub)}",
    )


def _withheld(hub: Endpoint) -> str:
    """Why a token that is there was not sent."""
    return " HF_ENDPOINT is no https address: no token goes there." if hub.token else ""


def _too_many(headers: Mapping[str, str], hub: Endpoint) -> Passing:
    wait = _wait(headers)
    asked = f", for {duration(wait)}" if wait and wait > LONGEST else ""
    more = "" if hub.token else " With a token (HF_TOKEN) the hub allows more."
    return Passing(f"the hub asks to wait: too many requests{asked}", f"{AGAIN}{more}", wait)


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After names, as a number or as a date."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):  # no date, or one without a zone
        return None
