"""What prompts Ollama makes of a base that it renders by other means than the GGUF's Jinja.

The user's model would put its SYSTEM and MESSAGEs in front, and would have to be loaded. A template
or a renderer does not depend on the weights, so a model of a quarter of a megabyte gets them for
that time (tools/smallest.py), and is removed again.

One family cannot be had without Ollama's own code: a Gemma 4 registered without RENDERER and PARSER
gets both (server/create.go). Its parser lets a server switch thinking on unasked, so a specialist
is registered with the renderer and with `passthrough`, which takes no thoughts: one prompt then,
unasked and with `think: false`. Which of its two renderers is said as well: else the name decides.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

from pipeline.bases.chat_template import trained_messages
from pipeline.bases.reference import Reference
from pipeline.common.errors import BadInput, PipelineError
from pipeline.common.names import LETTERS
from pipeline.common.thoughts import spoken
from pipeline.common.values import Conversation, digest_of_file
from pipeline.made.artifacts import Base, Dataset
from pipeline.stages.fetching.learnt import Oracle, check
from pipeline.tools import server, smallest
from pipeline.tools.ollama import Ollama

FORCED = "Gemma4"  # what architectures begin with
LARGE = 12_000_000_000  # weights; from there on the other renderer (server/renderer_resolution.go)


def forced(reference: Reference) -> dict[str, str]:
    """RENDERER and PARSER that a specialist of this base has to be registered with; {} for none."""
    if not reference.architecture.startswith(FORCED):
        return {}
    size = "large" if reference.parameters >= LARGE else "small"
    return {"renderer": f"gemma4-{size}", "parser": "passthrough"}


def renders(reference: Reference) -> dict[str, str]:
    """By what Ollama renders it; {} where that is the base's own Jinja."""
    if found := forced(reference):
        return found
    brought = reference.installed
    if reference.own_template or brought is None:
        return {}
    said = {"template": brought.template, "renderer": brought.renderer, "parser": brought.parser}
    return {key: text for key, text in said.items() if text}


def where(reference: Reference) -> str:
    """host:port of the Ollama that the base was found in; '' for one that was not."""
    return reference.installed.server if reference.installed else ""


@contextmanager
def asked(rendered_by: Mapping[str, str], at: str) -> Iterator[Oracle]:
    """The server, until the block ends.

    Args:
        rendered_by: as `renders` gives it.
        at: host:port of the server; '' for the user's.

    Raises:
        Missing: no server.
        ToolFailed: it refuses the model.
    """
    name = f"specialist-learns:{''.join(secrets.choice(LETTERS) for _ in range(8))}"
    environ = {"OLLAMA_HOST": at} if at else os.environ
    with (
        TemporaryDirectory() as folder,
        Ollama(server.ensure(lambda line: None, environ)) as ollama,
    ):
        file = Path(folder) / "smallest.gguf"
        smallest.write(file, template="")
        digest = digest_of_file(file)
        try:
            ollama.upload(file, digest, lambda progress: None)
            ollama.create(name, digest, renders=rendered_by)
            yield lambda talk: ollama.render(name, talk, think=False)
        finally:
            with suppress(PipelineError):
                ollama.unload(name)
            with suppress(PipelineError):
                ollama.delete(name)


def check_rendered(reference: Reference, base: Base, data: Dataset, system: str) -> int:
    """Compare every prompt that is trained with what the base's server makes of it.

    Args:
        system: goes to rows without a system turn.

    Returns: how many were compared, about 2 ms each.

    Raises:
        BadInput: the first difference.
    """
    template, count = base.template, 0
    with asked(renders(reference), where(reference)) as oracle:
        for part in ("train", "validation", "test"):
            for row in data.each(part):
                for talk in _prompts(row, system):
                    _compare(oracle, template, talk, reference.name)
                    count += 1
    return count


def _prompts(row: dict[str, Any], system: str) -> Iterator[Conversation]:
    """The conversations up to each answer that is trained."""
    turns = spoken(trained_messages(row["messages"], system))
    moved = len(turns) - len(row["messages"])
    for turn, message in enumerate(turns):
        if message["role"] == "assistant" and turn - moved not in row.get("context", ()):
            yield turns[:turn]


def _compare(oracle: Oracle, template: str, talk: Conversation, name: str) -> None:
    try:
        check(oracle(talk), template, talk, name)
    except BadInput as error:
        text = shorten(talk[-1]["content"], 60, placeholder=" …")
        raise BadInput(
            f"the row that asks “{text}” would be served otherwise than trained: {error}",
            "Leave this row out, or write it otherwise.",
        ) from error
