"""What a version was made of, found again in the store."""

from __future__ import annotations

from typing import Any

from pipeline.common.errors import Missing
from pipeline.made.artifacts import Adapter, Artifact, Base, Dataset, Packed, Specialist
from pipeline.made.conversations import Conversations
from pipeline.release.version import Version
from pipeline.run.store import Store

KINDS: dict[str, type[Artifact]] = {
    "base": Base,
    "data": Dataset,
    "adapter": Adapter,
    "gguf": Packed,
}
"""The artifacts of a specialist, by the names that records have for them."""


def found(version: Version, store: Store) -> dict[str, Artifact]:
    """Its artifacts by name, those that are still in the store as they were."""
    some = {}
    for name, kind in KINDS.items():
        each = (store.find(kind, stage) for stage in version.stages)
        artifact = next((a for a in each if a and a.digest == version.digests.get(name)), None)
        if artifact:
            some[name] = artifact
    return some


def specialist(version: Version, store: Store) -> Specialist:
    """The specialist that a version was made of.

    Raises:
        Missing: the record does not tell it, or it has gone from the store.
    """
    way_out = f"Make {version.name} again: what is released then can be verified."
    if version.system is None or not version.digests:
        raise Missing(f"nothing is known of how {version.tag} was registered", way_out)
    there = found(version, store)
    if gone := [name for name in version.digests if name not in there]:
        raise Missing(
            f"what {version.tag} was made of has gone from the store: {', '.join(gone)}"
            f" (of {', '.join(version.stages)})",
            way_out,
        )
    rows = (store.find(Conversations, stage) for stage in version.stages)
    values: dict[str, Any] = {
        "base": there["base"],
        "data": there["data"],
        "adapter": there["adapter"],
        "packed": there["gguf"],
        "rows": next(filter(None, rows), None),
        "name": version.name,
        "system": version.system,
        "parameters": version.parameters or {},
        "license": version.license or "",
        "stages": tuple(version.stages),
        "origin": version.origin,
        "origin_digest": version.origin_digest,
        "origin_weights": version.origin_weights,
    }
    return Specialist.model_validate(values)
