"""Give versions to what a program of before there were versions released; then NAME:previous goes.

First the records, then Ollama's tags, each where it is not done yet: a run that is killed anywhere
is made good by the next one.
"""

from __future__ import annotations

from pipeline.common import records
from pipeline.common.errors import PipelineError
from pipeline.common.names import full
from pipeline.release import history, older
from pipeline.release.history import History
from pipeline.release.locks import steady, turn
from pipeline.release.tags import PREVIOUS, Tags, copy
from pipeline.release.version import Version
from pipeline.tools.host import address
from pipeline.tools.ollama import Ollama


def take_over(name: str, ollama: Ollama) -> None:
    """Nothing, where all has versions already.

    The tags are given in the Ollama that has them; in another one they wait.

    Raises:
        Unreadable: a record.
        ToolFailed: Ollama did not copy as it said.
    """
    known = history.history(name)
    if known is None or not known.head.unfinished:
        return
    with turn(ollama.address, name), steady():
        here = _is_at(known.versions[0].ollama, ollama)
        tags = Tags.of(name, ollama.tags()) if here else Tags(None, None, {})
        known = _records(name, tags)
        if here:
            for version in known.there:
                if version.ollama == known.versions[0].ollama:
                    _tag(version, tags, ollama)
            _drop_previous(known, ollama)
            history.update(known, unfinished=False)


def _is_at(url: str, ollama: Ollama) -> bool:
    try:
        return address({"OLLAMA_HOST": url}).same(ollama.address)
    except PipelineError:  # an odd address in a record of before
        return False


def _records(name: str, tags: Tags) -> History:
    """The history on the disk, written if an older record stands for it."""
    record = records.read_any(history.file(name), history.KINDS)
    if isinstance(record, older.Record):
        found = history.of_before(record, older.free(record, tags))
        text = history.file(name, "Modelfile")
        *former, latest = found.versions
        for version in (*former, older.with_text(latest, text)):
            history.write_version(version)
        served = found.served(tags.latest)  # NAME:previous may have been put back by hand
        current = served.version if served else found.head.current
        history.write_head(found.head.model_copy(update={"current": current}))
    return history.known(name)


def _tag(version: Version, tags: Tags, ollama: Ollama) -> None:
    """Give a version its tag, if one of before has its model; never take somebody else's."""
    if version.version in tags.versions:
        return
    sources = {full(version.name): tags.latest, full(version.name, PREVIOUS): tags.previous}
    for source, digest in sources.items():
        if digest == version.manifest:
            return copy(ollama, source, version.tag, digest)


def _drop_previous(known: History, ollama: Ollama) -> None:
    """Remove NAME:previous, once its model has the tag of a version."""
    tags = Tags.of(known.name, ollama.tags())
    if any(tags.versions.get(v.version) == v.manifest == tags.previous for v in known.versions):
        ollama.delete(full(known.name, PREVIOUS))
