"""What was registered: a record per specialist, `<home>/releases/NAME.json`.

    NAME.json        what was registered in Ollama, of what, and the proof
    NAME.Modelfile   the same as text, FROM the GGUF in the store
    NAME.lock        held by the run that publishes

A model in Ollama is ours if a record names the digest of its manifest.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from pipeline.common import places
from pipeline.common.errors import BadInput, PipelineError, Unreadable
from pipeline.common.names import LATEST, PREVIOUS, check_name, full, same
from pipeline.common.records import FORMAT, read
from pipeline.common.values import digest_of, write_json
from pipeline.made.artifacts import Specialist
from pipeline.release.proof import Proof
from pipeline.tools import host, server
from pipeline.tools.ollama import Ollama


class Record(BaseModel):
    """A registered specialist."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    format: int = FORMAT
    name: str
    wanted: str
    """Digest of everything that was registered: equal for an equal `Specialist`."""
    manifest: str
    """Digest of the manifest of NAME:latest in Ollama."""
    former: str | None
    """That of the model that it took the place of, kept as NAME:previous."""
    when: str
    """ISO 8601, UTC."""
    ollama: str
    """The server's address."""
    base: str
    data: str
    """Digest of the data set."""
    rows: int
    loss: float | None
    """Validation loss of the checkpoint that was kept."""
    quantization: str
    size: int
    """Bytes of the GGUF."""
    digests: dict[str, str]
    """Of base, data, adapter and gguf."""
    stages: list[str]
    """Names of the stage directories that it was made from: they are kept."""
    earlier: list[str] = []
    """The same of NAME:previous, where it was made here: kept as well."""
    versions: dict[str, str]
    proof: Proof


def folder() -> Path:
    """Where the records lie."""
    return places.home() / "releases"


def file(name: str, suffix: str = "json") -> Path:
    """A specialist's record, or what lies beside it; Ollama's names know no capitals."""
    return folder() / f"{name.lower()}.{suffix}"


def released(name: str) -> Record | None:
    """The record of a specialist, None if it was never registered.

    Raises:
        Unreadable: its record is damaged or of another format; what it names stays.
    """
    way_out = f"Or give it up, and nothing else: specialist gc --forget {name}"
    return read(file(name), Record, way_out)


def records() -> tuple[list[Record], dict[str, Unreadable]]:
    """Every registered specialist; and by name the errors of records that cannot be read."""
    found: list[Record] = []
    faults: dict[str, Unreadable] = {}
    for path in sorted(folder().glob("*.json")):
        try:
            if record := released(path.stem):
                found.append(record)
        except Unreadable as error:
            faults[path.stem] = error
    return found, faults


def in_ollama(found: list[Record]) -> list[tuple[Record, bool | None]]:
    """For each record, whether its Ollama has the model; None where that Ollama does not answer.

    NAME:previous counts as well: it can be copied back, and is known as ours by the record.
    """
    tags = {url: _tags(url) for url in {record.ollama for record in found}}
    return [(record, _has(record, tags[record.ollama])) for record in found]


def _tags(url: str) -> dict[str, str] | None:
    try:
        where = host.address({"OLLAMA_HOST": url})
        if not server.answers(where, timeout=1.0):
            return None
        with Ollama(where) as ollama:
            return ollama.tags()
    except PipelineError:
        return None


def _has(record: Record, tags: dict[str, str] | None) -> bool | None:
    ours = {record.manifest, record.former}
    if tags is None:
        return None
    return any(
        same(name, full(record.name, tag)) and digest in ours
        for name, digest in tags.items()
        for tag in (LATEST, PREVIOUS)
    )


def files(name: str) -> list[Path]:
    """What there is of a specialist: its record, its Modelfile, and the journal of a release.

    Raises:
        BadInput: there is no such specialist.
    """
    check_name(name)
    suffixes = ("json", "Modelfile", "promotion")
    known = [path for path in (file(name, suffix) for suffix in suffixes) if path.exists()]
    if not known:
        raise BadInput(f"there is no specialist {name}", "See them with: specialist list")
    return known


def forget(name: str) -> None:
    """Remove a specialist's record, its Modelfile, and the journal of a release that broke off.

    Readable or not. Ollama keeps what it has.

    Raises:
        BadInput: there is no such specialist, or it is being registered.
    """
    known = files(name)
    try:
        with FileLock(file(name, "lock"), timeout=0, mode=0o600):
            for path in known:
                path.unlink()
    except Timeout:
        raise BadInput(f"{name} is being registered", "Let that run end first.") from None


def write(record: Record) -> None:
    """Keep a record."""
    write_json(file(record.name), record.model_dump(mode="json"))


def keep_stages(made: Specialist) -> None:
    """Let the record name the directories that this run found or made: they may be other ones."""
    record = released(made.name)
    if record and record.wanted == wanted(made) and record.stages != list(made.stages):
        write(record.model_copy(update={"stages": list(made.stages)}))


def restore(name: str, record: Record | None) -> None:
    """Make the record what it was before; None if there was none."""
    if record:
        write(record)
    else:
        file(name).unlink(missing_ok=True)


def wanted(made: Specialist) -> str:
    """Digest of everything that a release registers."""
    return digest_of({**made.model_dump(mode="json", include=_VALUES), **digests(made)})


_VALUES = {"name", "system", "parameters", "license"}


def digests(made: Specialist) -> dict[str, str]:
    """Content digests of what it is made of."""
    return {name: artifact.digest for name, artifact in made.artifacts().items()}


def already_released(made: Specialist, ollama: Ollama) -> bool:
    """True if Ollama has exactly this (one call)."""
    record = released(made.name)
    return (
        record is not None
        and record.wanted == wanted(made)
        and ollama.digest(full(made.name)) == record.manifest
    )


def check_name_is_ours(name: str, ollama: Ollama, *, replace: bool = False) -> None:
    """A name in Ollama that we did not make is never taken without being told to.

    Raises:
        BadInput: NAME or NAME:previous is another model.
    """
    record = released(name)
    ours = {record.manifest, record.former} if record else set()
    tags = ollama.tags()
    for tag in (LATEST, PREVIOUS):
        found = next((d for known, d in tags.items() if same(known, full(name, tag))), None)
        if found and found not in ours and not replace:
            raise BadInput(
                f"Ollama has a model {full(name, tag)} that was not made here",
                "Choose another name, or add --replace (the new one is proven first; "
                f"what {name} is now stays as {full(name, PREVIOUS)}).",
            )
