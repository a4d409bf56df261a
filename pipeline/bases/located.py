"""A base that an origin found: what it is, in which format, and where it lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.common.digests import file_digest
from pipeline.common.progress import Progress

FORMS = (
    "FROM takes embedded:smollm2-135m-instruct, a model of your Ollama (llama3.2:3b), ./model.gguf,"
    " ./a-hugging-face-directory, hub:ORG/NAME@COMMIT, or merged:./base+./adapter."
)

Report = Callable[[Progress], object]
Say = Callable[[str], object]
FormatName = Literal["huggingface", "gguf"]


class Installed(BaseModel):
    """What a model in the local Ollama has beside its weights: shown, and not taken over."""

    model_config = ConfigDict(frozen=True)

    tag: str
    """Its name in Ollama, `llama3.2:3b`."""
    manifest: str
    """Digest of what the tag held."""
    server: str = ""
    """host:port of the Ollama that it is in."""
    template: str = ""
    """In Go's template language; '' where it renders by its GGUF's Jinja."""
    system: str = ""
    parameters: dict[str, str | int | float | bool | list[str]] = {}
    messages: int = 0
    """Example turns that it begins conversations with."""
    renderer: str = ""
    """Ollama's own code that renders its prompts; '' for none."""
    parser: str = ""
    projectors: dict[str, Path] = {}
    """Layers that see or hear, by digest (sha256:…)."""


class Located(BaseModel):
    """What FROM means. Nothing is read of it yet but bytes."""

    model_config = ConfigDict(frozen=True)

    origin: str
    """Name of the origin that found it."""
    format: FormatName
    """By it the base is read: a directory of safetensors, or a GGUF file."""
    name: str
    """For people: `SmolLM2-135M-Instruct`, or the directory's name. Part of no key and no file."""
    digest: str
    """Of the content: the same base elsewhere has the same."""
    path: Path
    """The directory or the GGUF file on this machine: part of no key (those use `digest`)."""
    files: dict[str, str]
    """sha256 of each file that decides what the base is, by name."""
    license: str = ""
    """What the origin says of it; '' where only the files do."""
    installed: Installed | None = None
    """Of a base in the local Ollama."""
    published: str = ""
    """A name that it has wherever it lies; '' where only a folder or a tag gives one."""
    adapter: Path | None = None
    """The folder of a LoRA adapter that is merged into it first."""
    adapter_files: dict[str, str] = {}
    """As `files`, of that folder."""

    @property
    def short(self) -> str:
        """What the base is called in files that a key covers: nothing of a folder's name."""
        return self.published or self.digest[:12]


class Facts(BaseModel):
    """What a format reads of a base without its weights."""

    model_config = ConfigDict(frozen=True)

    architecture: str
    """Of its family: `LlamaForCausalLM`."""
    parameters: int
    context: int
    """Longest context in tokens."""
    weights: str = ""
    """The type that most weights of a GGUF lie in, `Q4_K`; '' of a directory, which is 16 bit."""
    own_template: bool = True
    """It brings a chat template in Jinja."""
    can_think: bool = False
    """Its chat template reads whether answers begin with thoughts."""


@dataclass(frozen=True)
class Origin:
    """Where bases come from, told by what follows FROM."""

    name: str
    means: Callable[[str], bool]
    """True for a text that is of this origin."""
    locate: Callable[[str, Path, Report], Located]
    """Finds it: the text, the folder that relative paths start from, who is told of long reading.

    It takes milliseconds where the base was seen before, and downloads nothing.
    """
    facts: Facts | None = None
    """Of an origin that always gives the same base."""
    bring: Callable[[str, Report, Say], str] | None = None
    """Gets a base to this machine where the user allows it: the text, who is told how far it is,
    and what went wrong on the way. Returns in words what was done, '' where it was there."""


def digests(
    path: Path, names: list[str], read: Callable[[int], object] = lambda count: None
) -> dict[str, str]:
    """sha256 of the files that decide what a base is, by name.

    Args:
        path: the directory, or the GGUF file.
        names: of the files in the directory, or beside the GGUF file.
        read: told after each block that had to be read how many bytes it had.
    """
    folder = path if path.is_dir() else path.parent
    return {name: file_digest(folder / name, read) for name in sorted(names)}
