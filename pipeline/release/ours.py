"""What of Ollama is ours: a model is, if a version of its name has the digest of its manifest."""

from __future__ import annotations

from pipeline.common.errors import BadInput
from pipeline.common.names import full
from pipeline.common.values import digest_of
from pipeline.made.artifacts import Specialist
from pipeline.release import history
from pipeline.release.history import History
from pipeline.release.version import Version
from pipeline.tools.ollama import Ollama

_VALUES = {"name", "system", "parameters", "license"}


def wanted(made: Specialist) -> str:
    """Digest of everything that a release registers."""
    eyes = {"projectors": list(made.base.projectors)} if made.base.projectors else {}
    return digest_of({**made.model_dump(mode="json", include=_VALUES), **digests(made), **eyes})


def digests(made: Specialist) -> dict[str, str]:
    """Content digests of what it is made of."""
    return {name: artifact.digest for name, artifact in made.artifacts().items()}


def with_values(version: Version, made: Specialist) -> Version:
    """A version with what it was registered with, which a record of before may not tell."""
    return version.model_copy(update={name: getattr(made, name) for name in _VALUES})


def already_released(made: Specialist, ollama: Ollama) -> bool:
    """True if NAME is exactly this in Ollama (one call)."""
    return served_already(made, history.history(made.name), ollama) is not None


def served_already(made: Specialist, known: History | None, ollama: Ollama) -> Version | None:
    """The version that NAME is, if it is exactly this."""
    if known is None or all(version.wanted != wanted(made) for version in known.there):
        return None
    served = known.served(ollama.digest(full(made.name)))
    return served if served and served.wanted == wanted(made) else None


def check_name_is_ours(name: str, ollama: Ollama, *, replace: bool = False) -> None:
    """A name in Ollama that we did not make is never taken without being told to.

    Raises:
        BadInput: NAME is another model.
    """
    known = history.history(name)
    found = ollama.digest(full(name))
    if found and not replace and not (known and known.served(found)):
        raise BadInput(
            f"Ollama has a model {full(name)} that was not made here",
            "Choose another name, or add --replace (the new one is proven first; "
            f"what {name} is now stays as a version of it).",
        )
