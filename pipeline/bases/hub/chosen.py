"""Which files of a repository are taken: those that a base is made of, its licence and its card."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.bases.checkpoint import DECLARED, INDEX, PICKLES, read
from pipeline.bases.hub.repository import Repository
from pipeline.bases.hub.tree import Entry
from pipeline.common.errors import BadInput
from pipeline.common.foreign import LONGEST, shown

CARD = "README.md"
LICENSES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
ONE = "model.safetensors"
WORDS = 64 << 20  # bytes of a file that is no weights; tokenizer.json of Gemma 3 has 33 million
MOST = 1000  # files of weights


def words(repository: Repository, found: Mapping[str, Entry]) -> list[Entry]:
    """The files without weights, the index of the weights among them.

    Raises:
        BadInput: it is no model whose weights are read here, or one of them is far too large.
    """
    _check(repository, found)
    index = [] if ONE in found else [INDEX]
    taken = [found[n] for n in (*DECLARED, *LICENSES, CARD, *index) if n in found]
    for entry in taken:
        if entry.size > (LONGEST if entry.name == INDEX else WORDS):
            raise BadInput(
                f"{repository.text}: {entry.name} has {entry.size} bytes, no model's has so many",
                "Take another base.",
            )
    return taken


def weights(repository: Repository, found: Mapping[str, Entry], folder: Path) -> list[Entry]:
    """The files of weights that transformers would choose: one, or those that the index names.

    Args:
        folder: where the index lies, if there is one.

    Raises:
        BadInput: the index names a file that is not there, or no weights.
    """
    if ONE in found:
        return [found[ONE]]
    named = read(folder, INDEX).get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    if not 0 < len(names) <= MOST:
        raise BadInput(f"{repository.text}: {INDEX} names no weights", "Take another base.")
    for name in names:
        if name not in found or not name.endswith(".safetensors"):
            raise BadInput(
                f"{repository.text} lacks {shown(name)}, which {INDEX} names", "Take another base."
            )
    return [found[name] for name in names]


def _check(repository: Repository, found: Mapping[str, Entry]) -> None:
    """See that there are weights, and words about them."""
    if ONE not in found and INDEX not in found:
        raise BadInput(
            f"{repository.text} has no weights that are read here: {_instead(found)}",
            "Take a repository with config.json, tokenizer.json and *.safetensors.",
        )
    for name in ("config.json", "tokenizer.json"):
        if name not in found:
            raise BadInput(
                f"{repository.text} is no model that is read here: it has no {name}",
                "Take a repository with config.json, tokenizer.json and *.safetensors.",
            )


def _instead(found: Mapping[str, Entry]) -> str:
    """What stands where the weights should be."""

    def first(*patterns: str) -> str:
        return next((n for n in sorted(found) if any(fnmatchcase(n, p) for p in patterns)), "")

    if "adapter_config.json" in found:
        return "it is a LoRA adapter, and no base"
    if name := first(*PICKLES):
        return f"only {shown(name)}, and a pickle can run code"
    if name := first("*.gguf"):
        return f"only GGUF files ({shown(name)})"
    return f"no {ONE}"
