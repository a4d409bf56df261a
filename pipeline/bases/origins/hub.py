"""A base from the hub, `hub:ORG/NAME@COMMIT`: downloaded once, where the user allows it."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.bases import checkpoint
from pipeline.bases.hub import kept
from pipeline.bases.hub.chosen import CARD, LICENSES
from pipeline.bases.hub.endpoint import endpoint
from pipeline.bases.hub.repository import PREFIX, Repository, parse
from pipeline.bases.located import Located, Origin, Report, Say
from pipeline.bases.origins.directory import read_once
from pipeline.common.errors import BadInput, NotDownloaded
from pipeline.common.foreign import shown
from pipeline.common.values import digest_of

FLAG = "--allow-download"


def locate(text: str, beside: Path, report: Report) -> Located:
    """The base as it was downloaded. The network is not asked.

    Raises:
        BadInput: no commit is named, or it is no base that can be tuned and served.
        NotDownloaded: it is not on this machine.
        Missing: it is damaged.
    """
    repository = parse(text)
    if not repository.commit:
        raise _without_commit(repository)
    record, folder = kept.record(repository), kept.folder(repository)
    if record is None:
        raise NotDownloaded(
            f"FROM {repository.text}: it is not on this machine", "Allow its download, once:"
        )
    _check(folder, {name: "" for name in record.files})
    checkpoint.check(folder)  # before its weights are read for the digest
    files = read_once(folder, checkpoint.declared(folder), report, repository.name)
    _check(folder, {n: s for n, s in files.items() if record.files.get(n) != s})
    # published stays '': the same files in a directory have the same digest, and so one key
    return Located(
        origin=ORIGIN.name,
        format="huggingface",
        name=repository.name,
        digest=digest_of(files),
        path=folder,
        files=files,
        license=_license(folder),
    )


def bring(text: str, report: Report, say: Say) -> str:
    """Download it, unless it is there: what was done, in words.

    Raises:
        PipelineError: as `hub/download.py` says.
    """
    from pipeline.bases.hub import download  # httpx: not for a base that is there

    return download.bring(parse(text), report, say)


def _without_commit(repository: Repository) -> BadInput:
    page = f"{endpoint().url}/{repository.id}/commits/main"
    why = f"{shown(repository.revision)} is none" if repository.revision else "none is named"
    return BadInput(
        f"FROM {repository.text}: a commit (40 hex digits) is needed, {why}",
        f"Copy it from {page}:  FROM {repository.at('COMMIT')}   ({FLAG} looks it up)",
    )


def _check(folder: Path, suspects: dict[str, str]) -> None:
    """Refuse a download of which a file is not as it was, or gone."""
    for name in sorted(suspects):
        if suspects[name] or not (folder / name).is_file():
            raise kept.damaged(folder / name)


def _license(folder: Path) -> str:
    """What its card says, where no licence lies beside it: `apache-2.0`, or its own name of one."""
    if any((folder / name).is_file() for name in LICENSES) or not (folder / CARD).is_file():
        return ""
    with (folder / CARD).open(encoding="utf-8", errors="replace") as card:
        head = card.read(1 << 20).partition("\n---")[0]
    said = dict(re.findall(r"^(license|license_name|license_link):[ \t]*(\S.*)$", head, re.M))
    named = {key: shown(value.strip().strip("\"'"), 200) for key, value in said.items()}
    if named.get("license") != "other" or "license_name" not in named:
        return named.get("license", "")
    link = named.get("license_link", "")
    return named["license_name"] + (f" ({link})" if link else "")


ORIGIN = Origin(
    "hub",
    means=lambda text: text.lower().startswith(PREFIX),
    locate=locate,
    bring=bring,
)
