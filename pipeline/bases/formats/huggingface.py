"""What a Hugging Face directory says of a base."""

from __future__ import annotations

from pathlib import Path

from pipeline.bases import checkpoint, own_template
from pipeline.bases.located import Facts


def files(folder: Path) -> list[str]:
    """Names of the files that decide what the base is.

    Raises:
        BadInput: its weights are not all there.
    """
    return checkpoint.declared(folder)


def facts(folder: Path) -> Facts:
    """What is known without the weights.

    Raises:
        BadInput: what is missing or not supported, by name.
    """
    config = checkpoint.check(folder)
    template = own_template.read(folder)
    return Facts(
        architecture=config["architectures"][0],
        parameters=checkpoint.parameters(folder, config),
        context=config["max_position_embeddings"],
        own_template=bool(template),
        can_think=own_template.SWITCH in template,
    )
