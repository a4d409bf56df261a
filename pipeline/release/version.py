"""The record of one version of a specialist; once written it never changes.

What is unknown is None or empty: of a version that an older program released, or of a model that
was not made here and that a version was made of before it was replaced.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.common.names import numbered
from pipeline.common.records import FORMAT
from pipeline.release.proof import Proof
from pipeline.release.verdict import Verdict


class Version(BaseModel):
    """NAME:vN, what it was made of, and what was proven of it."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    format: int = FORMAT
    version: int
    name: str
    manifest: str
    """Digest of its manifest in Ollama."""
    ollama: str
    """The server's address."""
    note: str = ""
    """Where it comes from, if it is not a release like others."""
    when: str | None = None
    """ISO 8601, UTC."""
    wanted: str | None = None
    """Digest of everything that was registered: equal for an equal `Specialist`."""
    base: str | None = None
    origin: str = ""
    """What FROM said; '' in a record of an earlier version."""
    origin_digest: str = ""
    """Of the base that was found there."""
    origin_weights: str = ""
    """The type that its weights lay in."""
    data: str | None = None
    """Digest of the data set."""
    rows: int | None = None
    trained: str = ""
    """Its rows of the training part (release/held_out.py); '' in a record of an earlier program."""
    tested: str = ""
    """Those of the test part."""
    loss: float | None = None
    """Validation loss of the checkpoint that was kept."""
    quantization: str | None = None
    size: int | None = None
    """Bytes of the GGUF."""
    digests: dict[str, str] = {}
    """Of base, data, adapter and gguf."""
    stages: list[str] = []
    """Names of the stage directories that it was made from: they are kept."""
    settings: dict[str, dict[str, Any]] = {}
    """Of each stage, as `plan` shows them."""
    system: str | None = None
    parameters: dict[str, Any] | None = None
    """PARAMETERs as Ollama's API takes them."""
    license: str | None = None
    versions: dict[str, str] = {}
    """Of tools."""
    proof: Proof | None = None
    verdict: Verdict | None = None

    @property
    def stopped(self) -> bool:
        """True where the verdict was not to serve it; it stays to be looked at."""
        return self.verdict is not None and self.verdict.stopped

    @property
    def tag(self) -> str:
        """`NAME:vN`."""
        return numbered(self.name, self.version)

    @property
    def label(self) -> str:
        """`vN`."""
        return f"v{self.version}"
