"""A base with a LoRA adapter merged into it: `merged:./base+./adapter`.

`merged:./adapter` alone takes the base that the adapter names, where that is a folder here.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.bases import checkpoint
from pipeline.bases.located import Located, Origin, Report, Say, digests
from pipeline.bases.origins import directory, hub
from pipeline.common.errors import BadInput
from pipeline.common.foreign import shown
from pipeline.common.values import digest_of

PREFIX = "merged:"
BASES = (hub.ORIGIN, directory.ORIGIN)
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json")


def locate(text: str, beside: Path, report: Report) -> Located:
    """The base as its own origin finds it, and the adapter beside it.

    Raises:
        BadInput: no adapter, no base, or a base that is no directory of safetensors.
    """
    base, folder = _parts(text, beside)
    found = _origin(base).locate(base, beside, report)
    names = [name for name in (CONFIG, WEIGHTS, *TOKENIZER) if (folder / name).is_file()]
    files = digests(folder, names)
    return found.model_copy(
        update={
            "origin": ORIGIN.name,
            "name": f"{found.name}+{folder.name}",
            "digest": digest_of({"base": found.digest, "adapter": files}),
            "published": "",
            "adapter": folder,
            "adapter_files": files,
        }
    )


def bring(text: str, report: Report, say: Say) -> str:
    """Download its base, where that is from the hub.

    Raises:
        PipelineError: as its origin says.
    """
    base, _ = _said(text)
    get = _origin(base).bring if base else None
    return get(base, report, say) if get else ""


def _said(text: str) -> tuple[str, str]:
    """What names the base, '' where only the adapter does, and the adapter's folder as written."""
    said = re.fullmatch(r"(?:(.+)\+)?((?:~|\.{1,2})?/.*)", text[len(PREFIX) :], re.DOTALL)
    if not said:
        raise BadInput(
            f"FROM {shown(text)}: no adapter's folder is named",
            "The form is merged:BASE+ADAPTER, as in merged:./base+./adapter.",
        )
    return said[1] or "", said[2]


def _parts(text: str, beside: Path) -> tuple[str, Path]:
    """What names the base, and the adapter's folder."""
    base, adapter = _said(text)
    folder = (beside / Path(adapter).expanduser()).resolve()
    if not (folder / CONFIG).is_file():
        raise BadInput(
            f"FROM {text}: {folder} is no LoRA adapter: it has no {CONFIG}",
            "An adapter is the folder that PEFT's save_pretrained writes.",
        )
    if not (folder / WEIGHTS).is_file():
        raise BadInput(
            f"FROM {text}: {folder} has no {WEIGHTS}",
            "Only safetensors are read: save it again with save_pretrained of today's PEFT.",
        )
    return base or _named(text, folder), folder


def _named(text: str, folder: Path) -> str:
    """The folder that the adapter says it was trained on."""
    base = str(checkpoint.read(folder, CONFIG).get("base_model_name_or_path") or "")
    if Path(base).is_absolute() and Path(base).is_dir():
        return base
    known = f"it names {shown(base)}, which is no folder here" if base else "it names no base"
    adapter = text[len(PREFIX) :]
    raise BadInput(
        f"FROM {text}: where is the adapter's base? {known}",
        f"Say it: FROM {PREFIX}./base+{adapter}, or {PREFIX}hub:ORG/NAME@COMMIT+{adapter}",
    )


def _origin(base: str) -> Origin:
    for origin in BASES:
        if origin.means(base):
            return origin
    raise BadInput(
        f"FROM {PREFIX}…: {shown(base)} is neither a folder nor hub:ORG/NAME@COMMIT",
        "An adapter is merged into the weights that it was trained on: a directory of safetensors.",
    )


ORIGIN = Origin("merged", means=lambda text: text.startswith(PREFIX), locate=locate, bring=bring)
