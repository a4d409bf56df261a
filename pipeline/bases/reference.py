"""What FROM points at: a base by origin and content, found in milliseconds, nothing downloaded."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.bases import own_template
from pipeline.bases.formats import FORMATS
from pipeline.bases.located import Facts, Located, Origin, Report, Say, digests
from pipeline.bases.origins import ORIGINS
from pipeline.common.errors import BadInput, Missing

__all__ = ["Original", "Reference", "Report", "bring", "original", "refuse_if_changed", "resolve"]


class Reference(Located, Facts):
    """A base that was found, and what is known of it: `fetch` makes a Base of it."""


def resolve(text: str, beside: Path, report: Report = lambda progress: None) -> Reference:
    """The base that `FROM text` means.

    Args:
        text: what follows FROM.
        beside: the folder that relative paths start from (the Modelfile's).
        report: told how much of a large base is read, which happens once.

    Raises:
        BadInput: a form that this version does not take, or a base that cannot be used.
        Missing: it is not on this machine.
    """
    origin = _origin(text)
    located = origin.locate(text, beside, report)
    facts = origin.facts or FORMATS[located.format].facts(located.path)
    if located.adapter and own_template.read(located.adapter):
        facts = facts.model_copy(update={"own_template": True})
    return Reference(**located.model_dump(), **facts.model_dump())


def bring(text: str, report: Report = lambda progress: None, say: Say = lambda line: None) -> str:
    """Get the base that `FROM text` means to this machine, if it lies elsewhere and is not here.

    Args:
        report: told how far it is.
        say: told what is waited for on the way.

    Returns: what was done, in words; '' if nothing was to do.

    Raises:
        PipelineError: it cannot be had: what happened, and what to do.
    """
    get = _origin(text).bring
    return get(text, report, say) if get else ""


def _origin(text: str) -> Origin:
    return next(origin for origin in ORIGINS if origin.means(text))


class Original(BaseModel):
    """The GGUF that a base was read from: what training does not touch is packed from it."""

    model_config = ConfigDict(frozen=True)

    digest: str = ""
    """Of the base; '' where a base is no GGUF, so that it is no part of any key."""
    path: Path = Path()
    files: dict[str, str] = {}
    again: str = ""
    """How to get it again, where it may go."""

    @property
    def paths(self) -> list[Path]:
        """The file, or all files that it is split into."""
        return [self.path.parent / name for name in FORMATS["gguf"].files(self.path)]

    def check(self) -> None:
        """See that it is there, and as it was found.

        Raises:
            Missing: it has gone.
            BadInput: it changed.
        """
        if not self.path.is_file():
            raise Missing(f"the base's GGUF has gone: {self.path}", self.again)
        _refuse(self.path, "gguf", self.files)


def original(reference: Reference) -> Original:
    """What packing takes of a base beside what `fetch` made of it."""
    if reference.format != "gguf":
        return Original()
    tag = reference.installed.tag if reference.installed else ""
    return Original(
        digest=reference.digest,
        path=reference.path,
        files=reference.files,
        again=f"Get it again (ollama pull {tag}), then run the same command."
        if tag
        else "Put it there again, then run the same command.",
    )


def refuse_if_changed(reference: Reference) -> None:
    """See that a base's files are still those that were found.

    Raises:
        BadInput: one is not.
    """
    _refuse(reference.path, reference.format, reference.files)
    adapter, files = reference.adapter, reference.adapter_files
    if adapter and digests(adapter, list(files)) != files:
        raise _changed(adapter)


def _refuse(path: Path, form: str, files: dict[str, str]) -> None:
    if digests(path, FORMATS[form].files(path)) != files:
        raise _changed(path)


def _changed(path: Path) -> BadInput:
    return BadInput(f"{path} changed while it was read", "Run again when it is at rest.")
