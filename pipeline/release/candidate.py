"""A model in Ollama that is not NAME yet: known by its tag and by the digest of its manifest."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.common.errors import ProofFailed
from pipeline.tools.ollama import Ollama


@dataclass(frozen=True)
class Candidate:
    """What is registered and not yet NAME."""

    name: str
    """Full name: `brand-voice:candidate-qxvtrwkz`."""
    digest: str
    """Of its manifest: the same as long as it is the same model."""

    def check(self, ollama: Ollama) -> None:
        """It is still what was registered.

        Raises:
            ProofFailed: the tag is gone, or another model's.
        """
        if (now := ollama.digest(self.name)) != self.digest:
            found = "is gone from Ollama" if now is None else "is another model by now"
            raise ProofFailed(f"{self.name} {found}", "Run the same command again.")
