"""A base in the local Ollama, asked what prompts it makes: a model of our own for that time.

The user's model would put its SYSTEM and MESSAGEs in front. So its file is registered once more,
with its template, or renderer and parser, and nothing else, and removed again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pipeline.bases.chat_template import trained_messages
from pipeline.bases.reference import Reference
from pipeline.common.errors import PipelineError
from pipeline.common.thoughts import spoken
from pipeline.made.artifacts import Base, Dataset
from pipeline.stages.fetching.learnt import Oracle, check
from pipeline.tools import server
from pipeline.tools.ollama import Ollama

_LETTERS = "bcdfghjklmnpqrstvwxz"  # Ollama chooses renderers by digits in a name


def is_learnt(reference: Reference) -> bool:
    """True of a base whose template only Ollama knows."""
    brought = reference.installed
    return bool(not reference.own_template and brought and (brought.template or brought.renderer))


@contextmanager
def asked(reference: Reference) -> Iterator[Oracle]:
    """Its server, until the block ends.

    Raises:
        Missing: no server.
        ToolFailed: it refuses the model.
    """
    brought = reference.installed
    assert brought  # as `is_learnt` says
    said = {"template": brought.template, "renderer": brought.renderer, "parser": brought.parser}
    name = f"specialist-learns:{''.join(secrets.choice(_LETTERS) for _ in range(8))}"
    # a stage does not see the user's environment: the server is the one that the base was found in
    with Ollama(server.ensure(lambda line: None, {"OLLAMA_HOST": brought.server})) as ollama:
        try:
            ollama.create(
                name,
                reference.files[reference.path.name],
                renders={key: text for key, text in said.items() if text},
            )
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
    with asked(reference) as oracle:
        for part in ("train", "validation", "test"):
            for row in data.each(part):
                turns = spoken(trained_messages(row["messages"], system))
                moved = len(turns) - len(row["messages"])
                for turn, message in enumerate(turns):
                    if message["role"] == "assistant" and turn - moved not in row.get(
                        "context", ()
                    ):
                        check(oracle(turns[:turn]), template, turns[:turn], reference.name)
                        count += 1
    return count
