"""Run the proof again on what a name serves now."""

from __future__ import annotations

from pipeline.common.errors import BadInput, ProofFailed
from pipeline.common.names import full
from pipeline.made.stage import Where
from pipeline.release import history, made_of
from pipeline.release.candidate import Candidate
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
    where = where or Where()
    history.known(name)
    with alone(name, where.say):
        put_right(name, ollama, where.say)
    known = history.known(name)
    if (digest := ollama.digest(full(name))) is None and not known.head.current:
        raise BadInput(
            f"no version of {name} is served: each was stopped",
            f"See why: specialist list {name}",
        )
    if digest is None:
        raise BadInput(
            f"{full(name)} is gone from Ollama",
            f"Bring it back: specialist rollback {name} {known.current.label}",
        )
    served = known.served(digest)
    if served:
        return served, _proven(name, ollama, digest, served, where)
    where.say(f"{full(name)} is none of its versions; it is held to {known.current.label}")
    raise _another(name, ollama, digest, known.current, where)


def _proven(name: str, ollama: Ollama, digest: str, version: Version, where: Where) -> Proof:
    store = Store()
    with store.lease():
        made = made_of.specialist(version, store)
        return prove(ollama, Candidate(full(name), digest), made, where)


def _another(name: str, ollama: Ollama, digest: str, version: Version, where: Where) -> ProofFailed:
    """In what a model that is none of the versions differs.

    Not all that can differ is asked for in the proof: PARAMETERs are not, nor is the licence.
    """
    try:
        _proven(name, ollama, digest, version, where)
        differs = (
            f"{full(name)} is another model than {version.label}, though it answers as that was"
            " trained: its PARAMETERs or its LICENSE differ"
        )
    except ProofFailed as error:
        differs = error.what
    return ProofFailed(
        differs,
        f"Keep it if you want it (ollama cp {name} OTHER), then: ollama rm {name} &&"
        f" specialist rollback {name} {version.label}",
    )
