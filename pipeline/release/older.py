"""Releases of before there were versions: one record, `NAME.json` of format 1, and NAME:previous.

They are read as two versions: v1 is what NAME:previous was, of which the record has the manifest's
digest and the stages alone; v2 is NAME. Where there was nothing before it, NAME is v1.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.common.errors import BadInput
from pipeline.common.names import full
from pipeline.common.values import digest_of
from pipeline.release.proof import Proof
from pipeline.release.tags import PREVIOUS, Tags
from pipeline.release.version import Version
from pipeline.spec import modelfile

FORMAT = 1  # of NAME.json


class Record(BaseModel):
    """A registered specialist; the fields are those of `Version`."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    format: int = FORMAT
    name: str
    wanted: str
    manifest: str
    """Of NAME:latest."""
    former: str | None
    """Of NAME:previous, the model that it took the place of."""
    when: str
    ollama: str
    base: str
    data: str
    rows: int
    loss: float | None
    quantization: str
    size: int
    digests: dict[str, str]
    stages: list[str]
    earlier: list[str] = []
    """Stages of NAME:previous, where it was made here."""
    versions: dict[str, str]
    proof: Proof


def versions(record: Record, first: int = 1) -> list[Version]:
    """What the record tells, as versions.

    Args:
        first: number of the oldest.
    """
    known = record.model_dump(exclude={"format", "former", "earlier"})
    if record.former is None or record.former == record.manifest:
        return [Version(version=first, **known)]
    former = Version(
        version=first,
        name=record.name,
        manifest=record.former,
        ollama=record.ollama,
        stages=record.earlier,
        note=f"was {full(record.name, PREVIOUS)}",
    )
    return [former, Version(version=first + 1, **known)]


def free(record: Record, tags: Tags) -> int:
    """The lowest first number at which no tag of somebody else's is in the way."""
    first = 1
    while any(
        tags.versions.get(v.version, v.manifest) != v.manifest for v in versions(record, first)
    ):
        first += 1
    return first


def with_text(version: Version, text: Path) -> Version:
    """With SYSTEM, PARAMETERs and LICENSE out of NAME.Modelfile, if they are what was registered.

    The record has a digest of them only; the text is for people and may read differently.
    """
    try:
        said = modelfile.parse(text.read_text(encoding="utf-8"), text.name)
    except (OSError, UnicodeError, BadInput):
        return version
    values = {"system": said.system, "parameters": said.parameters, "license": said.license}
    if digest_of({"name": version.name, **values, **version.digests}) != version.wanted:
        return version
    return version.model_copy(update=values)
