"""Headers byte by byte, such as no library writes them, and a folder full of hostile modules."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

from pipeline.common.errors import PipelineError


def two_lines(error: PipelineError) -> bool:
    """What happened and what to do, for a terminal."""
    return (
        bool(error.next_step) and "\n" not in error.what + error.next_step and len(str(error)) < 900
    )


def modules(folder: Path) -> Path:
    """A folder with a module for every name that we or our libraries import.

    Each leaves its name in the folder's `ran` when it is imported, and fails.
    """
    names = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    names |= {"torch", "numpy", "transformers", "unsloth", "trl", "peft", "jinja2", "pydantic"}
    names |= {"gguf", "conversion", "llama_cpp", "safetensors", "tokenizers", "filelock", "click"}
    folder.mkdir()
    text = (
        f"open({str(folder / 'ran')!r}, 'a').write(__name__ + '\\n')\nraise SystemExit(__name__)\n"
    )
    for name in names:
        (folder / f"{name}.py").write_text(text)
    (folder / "pipeline").mkdir()
    (folder / "pipeline/__init__.py").write_text(text)
    return folder


def ran(folder: Path) -> str:
    """Names of the hostile modules that were imported."""
    return (folder / "ran").read_text() if (folder / "ran").exists() else ""


def safetensors(path: Path, head: Any, data: bytes = bytes(16), *, length: int = -1) -> Path:
    raw = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length < 0 else length) + raw + data)
    return path


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return u64(len(raw)) + raw


def info(name: str | bytes, *shape: int, kind: int = 0, at: int = 0) -> bytes:
    return text(name) + u32(len(shape)) + b"".join(map(u64, shape)) + u32(kind) + u64(at)


def gguf(*parts: bytes, tensors: int = 0, keys: int = 0, version: int = 3, data: int = 0) -> bytes:
    front = b"GGUF" + u32(version) + u64(tensors) + u64(keys) + b"".join(parts)
    return front + bytes(-len(front) % 32) + bytes(data)


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + u32(kind) + value
