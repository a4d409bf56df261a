"""A file of Ollama's store, as far as it can be read from here: no API gives one back."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.common.errors import Missing

_WINDOWS = re.compile(r"^[A-Za-z]:[\\/]|^\\\\")


def readable(path: str) -> Path:
    """The file, if it can be opened.

    Args:
        path: as the server told it.

    Raises:
        Missing: it cannot: which case it is, and the ways out.
    """
    if _WINDOWS.match(path):
        drive, rest = path[0].lower(), path[2:].replace("\\", "/")
        seen = Path(f"/mnt/{drive}{rest}")
        if seen.is_file():
            return seen
        raise Missing(
            f"Ollama runs on the Windows side, and its file is not seen from here: {path}",
            f"Let WSL mount that drive (it would be {seen}), or run Ollama inside WSL.",
        )
    file = Path(path)
    try:
        with file.open("rb"):
            return file
    except PermissionError as error:
        raise Missing(
            f"Ollama runs as a service of another user, and its files may not be read: {path}",
            "Join its group and log in again: sudo usermod -aG ollama $USER. If that is not enough,"
            f" open its folders for reading: sudo chmod -R g+rX {_store(file)}",
        ) from error
    except FileNotFoundError as error:
        raise Missing(
            f"Ollama's file is not on this machine's disk: {path}. It runs in a container, or"
            " behind a forwarded port on another machine",
            "Ways out: mount its store at the same path here (docker run -v"
            f" {_store(file)}:{_store(file)} …); or run an Ollama of this machine; or name a GGUF"
            " file instead: FROM ./model.gguf",
        ) from error


def _store(file: Path) -> Path:
    """Its folder of models: MODELS/blobs/sha256-…"""
    return file.parent.parent
