"""A specialist's base, to be asked beside it: the user's own model, or one registered for this.

What is registered lies under `specialist-base/` in Ollama, and `gc` removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.bases.reference import Reference, resolve
from pipeline.common.digests import file_digest
from pipeline.common.errors import BadInput, PipelineError
from pipeline.common.progress import Progress
from pipeline.release.version import Version
from pipeline.tools.ollama import Ollama

NAMESPACE = "specialist-base/"


def base_of(
    version: Version,
    ollama: Ollama,
    folders: Sequence[Path],
    report: Callable[[Progress], None] = lambda progress: None,
) -> str:
    """The name in Ollama under which the base of a version answers.

    Args:
        folders: that a relative FROM may start from: the Modelfile's, and for --base the working
            directory.

    Raises:
        BadInput: it is not known, has gone, or is no GGUF that Ollama could serve.
    """
    if not version.origin:
        raise BadInput(f"the record of {version.tag} does not tell its base", "Make it again.")
    base = found(version, folders)
    if base.installed:
        return base.installed.tag
    if base.format != "gguf" or len(base.files) > 1:
        raise BadInput(
            f"the base {base.name} is no single GGUF file: Ollama cannot be asked for it",
            "Only the specialist answers.",
        )
    name = f"{NAMESPACE}{base.digest[:12]}:latest"
    if not ollama.exists(name):
        digest = file_digest(base.path)
        ollama.upload(base.path, digest, report)
        ollama.create(name, digest, guess=True)
    return name


def found(version: Version, folders: Sequence[Path]) -> Reference:
    """The base as it was, in the first folder that has it.

    Raises:
        PipelineError: it has gone, or is another one now.
    """
    faults: list[PipelineError] = []
    for folder in folders:
        try:
            base = resolve(version.origin, folder)
        except PipelineError as error:
            faults.append(error)
            continue
        if base.digest == version.origin_digest:
            return base
        faults.append(
            BadInput(
                f"{version.origin} is another model now than {version.tag} was made from",
                "Make the specialist again, or ask it alone: ollama run",
            )
        )
    raise faults[0]


def registered(ollama: Ollama) -> list[str]:
    """Bases that were registered to be asked."""
    return [tag for tag in ollama.tags() if tag.startswith(NAMESPACE)]
