"""Run the proof again on what a name serves now."""

from __future__ import annotations

from pipeline.common.errors import BadInput, ProofFailed
from pipeline.common.names import full
from pipeline.made.stage import Where
from pipeline.release import history, made_of
from pipeline.release.candidate import Candidate
from pipeline.release.history import History
from pipeline.release.locks import alone
from pipeline.release.proof import Proof, prove
from pipeline.release.publish import put_right
from pipeline.release.version import Version
from pipeline.run.store import Store
from pipeline.tools.ollama import Ollama


def verify(name: str, ollama: Ollama, where: Where | None = None) -> tuple[Version, Proof]:
    """Prove that NAME:latest is served as its version was trained.

    A model that is none of the versions is held to the last one.

    Returns: the version and the proof.

    Raises:
        BadInput: there is no such specialist, or it is gone from Ollama.
        Missing: what it was made of is not in the store.
        ProofFailed: the first difference.
    """
    where, store = where or Where(), Store()
    history.known(name)
    with alone(name, where.say):
        put_right(name, ollama, where.say)
    known = history.known(name)
    if (digest := ollama.digest(full(name))) is None:
        raise BadInput(
            f"{full(name)} is gone from Ollama",
            f"Bring it back: specialist rollback {name} {known.current.label}",
        )
    served = known.served(digest)
    version = served or known.current
    if served is None:
        where.say(f"{full(name)} is none of its versions; it is held to {version.label}")
    with store.lease():
        proof = prove(
            ollama, Candidate(full(name), digest), made_of.specialist(version, store), where
        )
    if served is None:
        raise _another(known, version)
    return version, proof


def _another(known: History, version: Version) -> ProofFailed:
    """Not all that can differ is asked for in the proof: PARAMETERs are not, nor the licence."""
    return ProofFailed(
        f"{full(known.name)} is another model than {version.label}, though it answers as that was"
        " trained: its PARAMETERs or its LICENSE differ",
        f"Keep it if you want it (ollama cp {known.name} OTHER), then: ollama rm {known.name};"
        f" specialist rollback {known.name} {version.label}",
    )
