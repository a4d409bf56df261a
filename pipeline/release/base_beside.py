"""A specialist's base, to be asked beside it: the user's own model, or one registered for this.

What is registered lies under `specialist-base/` in Ollama, and `gc` removes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.bases.reference import resolve
from pipeline.common.digests import file_digest
from pipeline.common.errors import BadInput
from pipeline.common.progress import Progress
from pipeline.release.version import Version
from pipeline.tools.ollama import Ollama

NAMESPACE = "specialist-base/"


def base_of(
    version: Version,
    ollama: Ollama,
    beside: Path,
    report: Callable[[Progress], None] = lambda progress: None,
) -> str:
    """The name in Ollama under which the base of a version answers.

    Args:
        beside: the folder that a relative FROM starts from.

    Raises:
        BadInput: it is not known, has gone, or is no GGUF that Ollama could serve.
    """
    if not version.origin:
        raise BadInput(f"the record of {version.tag} does not tell its base", "Make it again.")
    found = resolve(version.origin, beside)
    if found.digest != version.origin_digest:
        raise BadInput(
            f"{version.origin} is another model now than {version.tag} was made from",
            "Make the specialist again, or ask it alone: ollama run",
        )
    if found.installed:
        return found.installed.tag
    if found.format != "gguf" or len(found.files) > 1:
        raise BadInput(
            f"the base {found.name} is no single GGUF file: Ollama cannot be asked for it",
            "Only the specialist answers.",
        )
    name = f"{NAMESPACE}{found.digest[:12]}:latest"
    if not ollama.exists(name):
        digest = file_digest(found.path)
        ollama.upload(found.path, digest, report)
        ollama.create(name, digest, guess=True)
    return name


def registered(ollama: Ollama) -> list[str]:
    """Bases that were registered to be asked."""
    return [tag for tag in ollama.tags() if tag.startswith(NAMESPACE)]
