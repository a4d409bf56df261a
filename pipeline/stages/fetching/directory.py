"""A Hugging Face directory as a base: copied, never linked, so that nothing can change it later."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import checkpoint
from pipeline.errors import BadInput
from pipeline.reference import Reference, resolve
from pipeline.stage import Progress, Where
from pipeline.stages.fetching import bf16
from pipeline.stages.fetching.source import Source
from pipeline.stages.packing.weights import opened
from pipeline.tools import converter
from pipeline.values import write_json

LICENSES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
AS_THEY_ARE = ("tokenizer.json", "tokenizer.model", "model.safetensors.index.json", *LICENSES)


def write(out: Path, reference: Reference) -> Source:
    """Write config and tokenizer of a directory to `out`.

    Raises:
        BadInput: the directory changed meanwhile.
    """
    folder = reference.path
    for name in AS_THEY_ARE:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    config = checkpoint.check(folder)
    _write_config(folder, out, config)
    return Source(_template(folder), _license(folder))


def write_weights(out: Path, reference: Reference, where: Where) -> None:
    """Write its weights (bf16) to `out`.

    Raises:
        BadInput: the directory changed meanwhile, or a weight is not finite.
    """
    folder = reference.path
    done = 0

    def told(name: str, weights: int) -> None:
        nonlocal done
        done += weights
        share = min(1.0, done / reference.parameters)
        where.report(Progress(0.7 * share, 1, f"weights to 16 bit: {name}"))

    for name in checkpoint.weight_files(folder):
        _write_weights(folder / name, out / name, where, partial(told, name))
    if resolve(str(folder), folder).digest != reference.digest:
        raise BadInput(f"{folder} changed while it was read", "Run again when it is at rest.")


def write_outline(out: Path, reference: Reference, where: Where) -> None:
    """Let the converter read config and tokenizer, and outline what it would make."""
    where.report(Progress(0.7, 1, "outlining the GGUF"))
    vocab, outline = out / "vocab.gguf", out / "outline.json"
    converter.write_outline(out, vocab, outline, name=reference.name)


def _write_config(folder: Path, out: Path, config: dict[str, Any]) -> None:
    dropped = ("torch_dtype", "_name_or_path")  # the second one is a path of another machine
    kept = {key: value for key, value in config.items() if key not in dropped}
    write_json(out / "config.json", {**kept, "dtype": "bfloat16"})
    tokens = checkpoint.read(folder, "tokenizer_config.json")
    tokens.pop("chat_template", None)  # the frozen one lies beside it; the converter prefers this
    write_json(out / "tokenizer_config.json", tokens)
    # only the ids: a base's sampling settings are not carried over, and the converter would
    chosen = checkpoint.read(folder, "generation_config.json")
    ids = {key: value for key, value in chosen.items() if key.endswith("_token_id")}
    write_json(out / "generation_config.json", ids)


def _write_weights(
    source: Path, target: Path, where: Where, told: Callable[[int], None] = lambda weights: None
) -> None:
    """One dtype from here on: bf16. Training, merging and conversion then never round again.

    float32 loses 16 bits and float16 three, both less than any quantization does; in return nothing
    overflows in training, as it can in float16.
    """
    kinds = {tensor["dtype"] for tensor in checkpoint.header(source).values()}
    if kinds == {"BF16"}:
        shutil.copyfile(source, target)
        bf16.check(target, told, source)  # the copy: the source may change meanwhile
        return
    where.say(f"{source.name}: weights in {', '.join(sorted(kinds - {'BF16'}))} are kept in bf16")
    with opened([source]) as weights:

        def blocks(name: str) -> Iterator[Any]:
            for block in bf16.stored(weights, name):
                yield block
                told(block.numel())

        shapes = {name: tensor.shape for name, tensor in weights.tensors.items()}
        bf16.write(target, shapes, blocks, source)


def _template(folder: Path) -> str:
    """The chat template, wherever a Hugging Face directory may keep it."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = checkpoint.read(folder, name).get("chat_template")
        if isinstance(found, list):  # several, by name
            found = {entry["name"]: entry["template"] for entry in found}.get("default")
        if isinstance(found, str):
            return found
    return ""


def _license(folder: Path) -> str:
    for name in LICENSES:
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8", errors="replace")
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = re.search(r"^license:[ \t]*(\S.*)$", text.partition("\n---")[0], re.MULTILINE)
    return found[1].strip() if found else ""
