"""How Ollama's HTTP answers are read: the client's foreign errors become ours here.

(`server.answers` asks before httpx is there, with the standard library, and has its own few.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from pipeline.common.errors import Missing, PipelineError, ProofFailed, ToolFailed

RESTART = "Start it again and run the same command: what is finished is kept."
T = TypeVar("T")
_UNKNOWN = "See what OLLAMA_HOST points to, or unset it."


class WentAway(ToolFailed):
    """The connection broke in the middle."""


@contextmanager
def door(doing: str) -> Iterator[None]:
    """Turn what httpx and JSON raise into our errors."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Missing(
            f"no Ollama answers ({doing})",
            "Run the same command again: it uses the Ollama that answers, or starts one.",
        ) from error
    except httpx.TimeoutException as error:
        raise ToolFailed(f"Ollama does not answer any more ({doing})", RESTART) from error
    except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
        raise WentAway(f"Ollama went away ({doing}): {error}", RESTART) from error
    except (
        httpx.HTTPError,
        httpx.StreamError,
        httpx.InvalidURL,
        httpx.CookieConflict,
        json.JSONDecodeError,
        UnicodeDecodeError,
    ) as error:
        raise ToolFailed(
            f"what answers is no Ollama that we know ({doing}): {error}", _UNKNOWN
        ) from error


def refused(answer: httpx.Response, doing: str) -> None:
    """Raise what an error answer says."""
    if not answer.is_error:
        return
    try:
        said = str(mapping(answer.json(), doing).get("error", answer.text))
    except (ValueError, PipelineError):
        said = answer.text[:200] or f"status {answer.status_code}"
    raise failure(doing, said)


def failure(doing: str, said: str) -> ToolFailed:
    """The error that Ollama's own words make."""
    way_out = "Its log says more."
    if "no space left" in said:
        way_out = "Make room on the disk of Ollama's models, then run the same command again."
    elif "binary not found" in said:
        way_out = "This Ollama lacks its helper programs: install Ollama again, or run: make setup"
    elif "llama-quantize failed" in said:  # all that Ollama says where it runs out of disk there
        way_out = "See if the disk of Ollama's models is full; its log says more."
    short = said if len(said) <= 300 else f"{said[:300]}…"
    return ToolFailed(f"Ollama refused ({doing}): {short}", way_out)


def mapping(value: Any, path: str) -> dict[str, Any]:
    """The value, which must be a JSON object."""
    if not isinstance(value, dict):
        raise ToolFailed(f"what answers {path} is no Ollama that we know", _UNKNOWN)
    return value


def needed(reply: Mapping[str, Any], field: str, kind: type[T], path: str) -> T:
    """A field that a reply must have: without it nothing is proven."""
    value = reply.get(field)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ProofFailed(
            f"Ollama's reply to {path} lacks {field}", "Update Ollama: version 0.30 or newer."
        )
    return value
