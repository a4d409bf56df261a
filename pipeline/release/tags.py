"""The tags of one name in Ollama at a moment, and how one is given to a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.common.errors import ToolFailed
from pipeline.common.names import full, same, version_in
from pipeline.tools.ollama import Ollama

PREVIOUS = "previous"  # what programs of before there were versions kept of the former model


@dataclass(frozen=True)
class Tags:
    """Digests of the manifests that a name has."""

    latest: str | None
    previous: str | None
    """Of NAME:previous: only older programs made one."""
    versions: dict[int, str]
    """Of NAME:vN by number, whoever made it."""

    @classmethod
    def of(cls, name: str, found: Mapping[str, str]) -> Tags:
        """Out of all the tags of an Ollama.

        Args:
            found: full name to digest.
        """
        numbers = {tag: version_in(tag, name) for tag in found}
        latest, previous = (
            next((digest for tag, digest in found.items() if same(tag, wanted)), None)
            for wanted in (full(name), full(name, PREVIOUS))
        )
        return cls(latest, previous, {n: found[tag] for tag, n in numbers.items() if n})


def copy(ollama: Ollama, source: str, destination: str, digest: str) -> None:
    """Give a model a second tag, and see that it has it.

    Args:
        digest: of the model's manifest.

    Raises:
        ToolFailed: Ollama did not do it, whatever it said.
    """
    ollama.copy(source, destination)
    if ollama.digest(destination) != digest:
        raise ToolFailed(
            f"Ollama said yes to a copy, but {destination} is not {source}",
            "Look at the disk of Ollama's models, then run the same command again.",
        )
