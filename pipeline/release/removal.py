"""Remove a version: its tag in Ollama, then its claim on the store. Its record stays."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.common.errors import BadInput
from pipeline.release import history
from pipeline.release.locks import alone, steady, turn
from pipeline.release.publish import put_right
from pipeline.release.rollback import version
from pipeline.release.tags import Tags
from pipeline.release.version import Version
from pipeline.tools.ollama import Ollama


def remove(name: str, ollama: Ollama, number: int, say: Callable[[str], None]) -> Version:
    """Give up a version that is not served. If it is killed in between, it can be run again.

    Returns: what was removed.

    Raises:
        BadInput: there is no such version, or NAME is it.
    """
    history.known(name)
    with alone(name, say):
        put_right(name, ollama, say)
        with turn(ollama.address, name), steady():
            known, tags = history.known(name), Tags.of(name, ollama.tags())
            gone = version(known, number)
            served = known.served(tags.latest)
            current = served.version if served else known.head.current
            if gone.version == current:
                raise BadInput(
                    f"{gone.tag} is what {name} serves",
                    f"Serve another one first: specialist rollback {name}; to give up all of it:"
                    f" specialist gc --forget {name}",
                )
            _remove_tag(gone, tags, ollama, say)
            removed = sorted({*known.head.removed, number})
            history.update(known, current=current, removed=removed)
    return gone


def _remove_tag(gone: Version, tags: Tags, ollama: Ollama, say: Callable[[str], None]) -> None:
    now = tags.versions.get(gone.version)
    if now == gone.manifest:
        ollama.delete(gone.tag)
    elif now:
        say(f"{gone.tag} in Ollama is another model, made by hand: it stays")
