"""Ollama's compat layer: with it llama.cpp loads the GGUFs of Ollama's own making.

The models of Ollama's library that see (Gemma 3, …) hold text and vision in one file, with keys and
tensors that llama.cpp does not know. An installed Ollama ships a patched llama-server, which
translates them while it loads; one of our own build gets the same. The layer lies in Ollama's Go
module, `llama/compat/` (MIT): C++ sources, and a patch that calls them in two sources of llama.cpp.
Both are copied; the unpacked llama.cpp, which the converter shares, stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.common import places
from pipeline.common.errors import ToolFailed
from pipeline.setup import needs
from pipeline.setup.step import Work

PACKAGE = "github.com/ollama/ollama"
PATCHED = ("src/llama-model-loader.cpp", "tools/mtmd/clip.cpp")  # as quick.cmake names them
_PATCH = "001-llama-cpp-hooks.patch"


def write(folder: Path, layer: Path, llama_cpp: Path) -> None:
    """Put the layer's sources and the patched ones of llama.cpp side by side.

    What is there already stays untouched, so that it is not compiled again.

    Args:
        layer: `llama/compat` of Ollama's module.
        llama_cpp: llama.cpp's tree.

    Raises:
        ToolFailed: the patch does not fit this llama.cpp.
    """
    sources = {path.name: path.read_text() for path in layer.glob("llama-ollama-compat*")}
    hunks = list(_hunks((layer / _PATCH).read_text()))
    if {name for name, _, _ in hunks} != set(PATCHED):
        raise _unfit("it changes other files than before")
    for name in PATCHED:
        text = (llama_cpp / name).read_text()
        for _, before, after in (hunk for hunk in hunks if hunk[0] == name):
            if text.count(before) != 1:
                raise _unfit(f"{name} has no one place for\n{before}")
            text = text.replace(before, after)
        sources[Path(name).name] = text
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in sources.items():
        if not (folder / name).exists() or (folder / name).read_text() != text:
            (folder / name).write_text(text)


def _hunks(patch: str) -> Iterator[tuple[str, str, str]]:
    """Of a unified diff: the file, the lines that its hunk finds, and what it makes of them."""
    for part in re.split(r"^diff --git .*\n", patch, flags=re.MULTILINE)[1:]:
        head, *hunks = re.split(r"^@@ .*\n", part, flags=re.MULTILINE)
        name = re.search(r"^\+\+\+ b/(.*)$", head, re.MULTILINE)
        for hunk in hunks:
            lines = [line if line.strip("\n") else " \n" for line in hunk.splitlines(keepends=True)]
            before, after = ([line[1:] for line in lines if line[0] in " " + s] for s in "-+")
            yield name[1] if name else head, "".join(before), "".join(after)


def layer(work: Work) -> Path:
    """Where the layer lies in Go's cache; the module is fetched if it is not there."""
    folder = needs.go_modules() / f"{PACKAGE}@v{places.OLLAMA}" / "llama" / "compat"
    if not folder.exists():
        work.child(["go", "mod", "download", f"{PACKAGE}@v{places.OLLAMA}"], {"GOFLAGS": ""})
    return folder


def _unfit(why: str) -> ToolFailed:
    return ToolFailed(
        f"The compat layer of Ollama {places.OLLAMA} does not fit llama.cpp of "
        f"llama-cpp-python {places.LLAMA_CPP_PYTHON}: {why}",
        "Other versions of both are set in pipeline/common/places.py; "
        "or install Ollama itself (https://ollama.com/download).",
    )
