"""A GGUF file as a base: written as a Hugging Face directory, and the check of the way back.

header -> the language model in llama.cpp's form -> config.json -> a hollow directory
       -> what the converter makes of it (outline) -> the same backwards, on the weights
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.bases import families
from pipeline.bases.families.family import Family, Gguf
from pipeline.bases.gguf_keys import TEMPLATE, Keys
from pipeline.bases.reference import Reference, original
from pipeline.bases.text_part import TextPart, text_part
from pipeline.common.errors import BadInput
from pipeline.common.foreign import shown
from pipeline.common.progress import Progress
from pipeline.common.values import write_json
from pipeline.made.stage import Where
from pipeline.stages.fetching import agree, bf16, gguf_tokenizer, hollow, outlines
from pipeline.stages.fetching.source import Source
from pipeline.stages.packing.gguf_weights import opened_gguf
from pipeline.stages.packing.text_file import text_file
from pipeline.tools import outline
from pipeline.tools.gguf_header import header
from pipeline.tools.gguf_layout import layout, layouts
from pipeline.tools.gguf_parts import parts
from pipeline.tools.gguf_values import text

BLOCK = 1 << 22  # weights


@dataclass(frozen=True)
class Read:
    """The front of a base's GGUF."""

    family: Family
    known: Gguf
    part: TextPart
    key: Keys


def write(out: Path, reference: Reference, where: Where) -> Source:
    """Write its config and tokenizer to `out`.

    Raises:
        BadInput: a key that is missing, or a vocabulary that cannot be rebuilt.
    """
    read = _read(reference.path)
    _write_config(read, out)
    gguf_tokenizer.write_tokenizer(read.key, out)
    template, license = (str(read.key.whole(k, "")) for k in (TEMPLATE, "general.license"))
    return Source(template, license)


def write_weights(out: Path, reference: Reference, where: Where) -> None:
    """Write its weights (bf16) to `out`, and what the converter makes of them.

    Raises:
        BadInput: a weight that is not finite.
        ToolFailed: the converter makes something else of such a directory: the first difference.
    """
    read = _read(reference.path)
    template = (out / "chat_template.jinja").read_text(encoding="utf-8")
    (out / "vocab.gguf").write_bytes(header({**read.part.keys, TEMPLATE: text(template)}, []))
    where.report(Progress(0, 1, "what the converter makes of such a base"))
    scratch = out / "scratch"
    hollow.write(out, scratch / "hollow")
    found = outlines.write_outline(
        scratch / "hollow", scratch / "keys.gguf", out / "outline.json", name="", vocabulary=False
    )
    agree.check_tensors(read.part, found, read.key)
    agree.check_keys(read.key, Keys(out, layout(scratch / "keys.gguf")), read.known)
    shutil.rmtree(scratch)
    _write_weights(out, reference, read, found, where)


def write_outline(out: Path, reference: Reference, where: Where) -> None:
    """See that the directory computes what the GGUF does.

    Raises:
        ToolFailed: it does not: the first text on which they differ.
    """
    where.report(Progress(0.7, 1, "checking the way back: the same answers?"))
    read, paths = _read(reference.path), original(reference).paths
    with text_file(paths, read.part, out / "scratch", weights=True) as plain:
        agree.check_logits(out, plain, read.key, where.threads)
    shutil.rmtree(out / "scratch", ignore_errors=True)


def config(path: Path) -> dict[str, Any]:
    """config.json of a GGUF, as far as its keys say it.

    Raises:
        BadInput: keys that contradict each other.
    """
    return _written(_read(path))


@lru_cache(maxsize=1)
def _read(path: Path) -> Read:
    """The front of the file: its lists of tokens take a second to decode."""
    found = layouts(parts(path))
    family = families.of_gguf(str(Keys(path, found).architecture))
    if family is None or family.gguf is None:
        raise BadInput(f"{path}: a GGUF of this family is not taken as a base")
    part = text_part(found, family.gguf)
    return Read(family, family.gguf, part, Keys(path, replace(found, keys=part.keys)))


def _write_config(read: Read, out: Path) -> None:
    """Write config.json and generation_config.json from the keys."""
    special = {
        f"{short}_token_id": int(token)
        for short, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
        if (token := read.key.whole(f"tokenizer.ggml.{name}_token_id", None)) is not None
    }
    write_json(out / "config.json", {**_written(read), **special})
    write_json(out / "generation_config.json", special)


def _written(read: Read) -> dict[str, Any]:
    return {
        "architectures": [read.family.architecture],
        "model_type": read.family.model_type,
        **_config(read),
        "tie_word_embeddings": read.key.shape("output.weight") is None,
        "dtype": "bfloat16",
    }


def _config(read: Read) -> dict[str, Any]:
    try:
        return read.known.config(read.key)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise BadInput(
            f"{read.key.path}: its keys contradict each other: {shown(repr(error), 200)}",
            "Get the file again.",
        ) from error


def _write_weights(
    out: Path, reference: Reference, read: Read, found: outline.Outline, where: Where
) -> None:
    """Write model.safetensors, in bf16 and in blocks of rows."""
    done = 0
    paths = original(reference).paths
    with opened_gguf(paths, read.part.tensors, found.tensors) as weights:

        def blocks(name: str) -> Iterator[Any]:
            import torch

            nonlocal done
            tensor = weights.tensors[name]
            step = max(1, BLOCK // tensor.row)
            for start in range(0, tensor.shape[0], step):
                block = weights.bits(name, start, min(start + step, tensor.shape[0]))
                yield torch.from_numpy(block)
                done += len(block)
                where.report(Progress(0.3 + 0.4 * done / total, 1, "weights to 16 bit"))

        shapes = {name: tensor.shape for name, tensor in weights.tensors.items()}
        total = sum(tensor.row * tensor.shape[0] for tensor in weights.tensors.values())
        bf16.write(out / "model.safetensors", shapes, blocks, reference.path)
