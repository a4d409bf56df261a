"""What of a GGUF is the language model, in llama.cpp's form; the rest is carried along untouched.

Ollama's own converter writes some families in another layout (vision tensors inside, keys under
other names), which only its patched llama.cpp loads. A family's file says how its keys become
llama.cpp's (`Gguf.normal`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.bases.families.family import Gguf
from pipeline.common.errors import ToolFailed
from pipeline.tools.gguf_layout import Layout, Place

CARRIED = ("a.", "v.", "mm.", "mtp.", "s.", "model.vision_tower.")
"""Beginnings of names of tensors that belong to eyes, ears and heads for guessing ahead: those that
Ollama tells a model of several parts by (its server/create.go)."""
DROPPED = ("general.sampling.", "split.", "general.alignment")
"""Keys that would change how a specialist is sampled (Ollama takes defaults out of them), that
speak of files it is no part of, or of padding that is written anew."""
_TOKENS = ("tokens", "scores", "token_type")
_STRING, _ARRAY = 8, 9  # llama.cpp's docs/gguf.md


@dataclass(frozen=True)
class TextPart:
    """The language model in a GGUF."""

    keys: dict[str, bytes]
    """In llama.cpp's form."""
    tensors: dict[str, Place]
    carried: dict[str, Place]
    plain: bool
    """The file itself is in that form: llama.cpp opens it as it is."""


def text_part(found: Layout, family: Gguf) -> TextPart:
    """The language model of a GGUF.

    Raises:
        ToolFailed: the vocabulary is shorter than the embedding.
    """
    others = CARRIED + family.unread(found.keys)
    carried = {n: place for n, place in found.tensors.items() if n.startswith(others)}
    tensors = {n: place for n, place in found.tensors.items() if n not in carried}
    published = without(found.keys, DROPPED)
    keys = dict(published)
    if embedding := tensors.get("token_embd.weight"):
        keys = _cut(keys, embedding.shape[-1])
    keys = family.normal(keys, tensors)
    return TextPart(keys, tensors, carried, plain=not carried and keys == published)


def without(keys: Mapping[str, bytes], beginnings: tuple[str, ...]) -> dict[str, bytes]:
    """The keys that begin otherwise, in their order."""
    return {name: raw for name, raw in keys.items() if not name.startswith(beginnings)}


def _cut(keys: dict[str, bytes], rows: int) -> dict[str, bytes]:
    """As many tokens as the embedding has rows: Ollama leaves one more in Gemma 3's list.

    Raises:
        ToolFailed: there are fewer.
    """
    cut = dict(keys)
    for name in (f"tokenizer.ggml.{which}" for which in _TOKENS):
        if name not in keys:
            continue
        raw = keys[name]
        kind, item, count = struct.unpack_from("<IIQ", raw)
        if kind != _ARRAY or count < rows:
            raise ToolFailed(f"{name} has {count} entries for {rows} rows of the embedding")
        if count > rows:
            cut[name] = struct.pack("<IIQ", kind, item, rows) + raw[16 : _end(raw, item, rows)]
    return cut


def _end(raw: bytes, item: int, count: int) -> int:
    """Where so many items of an array end."""
    if item != _STRING:
        return 16 + 4 * count  # scores and types of tokens have four bytes
    at = 16
    for _ in range(count):
        at += 8 + int.from_bytes(raw[at : at + 8], "little")
    return at
