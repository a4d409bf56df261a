"""Whether the file that Ollama stored holds what we gave it.

Ollama does not keep the uploaded bytes: it writes the GGUF anew, tensors in another order. So the
two files are compared by content: each tensor's type, shape and bytes, and each key but two that
are written anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.common.errors import ProofFailed
from pipeline.tools.gguf_layout import Layout, layout

REWRITTEN = {"general.file_type", "general.quantization_version"}
_CHUNK = 1 << 24  # bytes compared at once
_WAY_OUT = (
    "Remove the model in Ollama and run again; if it stays, its disk or its store is damaged."
)


def same_file(ours: Path, stored: Path) -> int:
    """The number of tensors, all equal.

    Raises:
        ProofFailed: the first key or tensor that differs.
        ToolFailed: a file is no whole GGUF.
    """
    left, right = layout(ours), layout(stored)
    _compare(
        "key", *({k: v for k, v in f.keys.items() if k not in REWRITTEN} for f in (left, right))
    )
    _compare(
        "tensor", *({k: (p.kind, p.shape) for k, p in f.tensors.items()} for f in (left, right))
    )
    for name in left.tensors:
        if not _equal(left, right, name):
            raise ProofFailed(f"tensor {name} has other bytes in the file of Ollama", _WAY_OUT)
    return len(left.tensors)


def _compare(what: str, ours: Mapping[str, object], theirs: Mapping[str, object]) -> None:
    for name in [*ours, *theirs]:
        if name not in theirs:
            raise ProofFailed(f"{what} {name} is not in the file of Ollama", _WAY_OUT)
        if name not in ours:
            raise ProofFailed(f"{what} {name} is only in the file of Ollama", _WAY_OUT)
        if ours[name] != theirs[name]:
            both = f"{str(ours[name])[:60]}, there {str(theirs[name])[:60]}"
            raise ProofFailed(f"{what} {name} differs in the file of Ollama: {both}", _WAY_OUT)


def _equal(left: Layout, right: Layout, name: str) -> bool:
    a, b = left.tensors[name], right.tensors[name]
    return all(
        left.data[a.start + i : a.start + min(i + _CHUNK, a.size)]
        == right.data[b.start + i : b.start + min(i + _CHUNK, b.size)]
        for i in range(0, a.size, _CHUNK)
    )
