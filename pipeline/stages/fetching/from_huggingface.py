"""A Hugging Face directory as a base: copied, never linked, so that nothing can change it later."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.bases import architecture, checkpoint, families, known_keys
from pipeline.bases.reference import Reference
from pipeline.common.progress import Progress
from pipeline.common.values import write_json
from pipeline.made.stage import Where
from pipeline.stages.fetching import adapted, bf16, outlines, vocabulary
from pipeline.stages.fetching.source import Source
from pipeline.stages.packing.merged import Merged
from pipeline.stages.packing.weights import opened

LICENSES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
_ELSEWHERE = ("chat_template", "name_or_path", "special_tokens_map_file", "tokenizer_file")
"""Of a tokenizer_config.json: the template lies beside it, frozen, and the converter would prefer
this one; the others are paths of another machine."""
AS_THEY_ARE = ("tokenizer.json", "tokenizer.model", *LICENSES)


def write(out: Path, reference: Reference, where: Where) -> Source:
    """Write config and tokenizer of a directory to `out`; what is left out of them is said.

    Raises:
        BadInput: the directory changed meanwhile, a key does not hold what it is for, or the
            tokenizer is none.
    """
    folder = reference.path
    config = checkpoint.check(folder)
    vocabulary.opened(folder)
    adapted.check(reference)
    several = checkpoint.weight_files(folder) != ["model.safetensors"]
    index = [checkpoint.INDEX] if several else []
    for name in [*AS_THEY_ARE, *index]:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    _write_config(folder, out, config, where)
    return Source(adapted.template(reference, where), _license(folder))


def write_weights(out: Path, reference: Reference, where: Where) -> None:
    """Write its weights (bf16) to `out`.

    Raises:
        BadInput: a weight is not finite.
        ToolFailed: an adapter that changes nothing.
    """
    folder = reference.path
    done = 0

    def told(name: str, weights: int) -> None:
        nonlocal done
        done += weights
        share = min(1.0, done / reference.parameters)
        where.report(Progress(0.7 * share, 1, f"weights to 16 bit: {name}"))

    with adapted.merged(reference) as merged:
        for name in checkpoint.weight_files(folder):
            _write_weights(folder / name, out / name, where, partial(told, name), merged)


def write_outline(out: Path, reference: Reference, where: Where) -> None:
    """Let the converter read config and tokenizer, and outline what it would make."""
    where.report(Progress(0.7, 1, "outlining the GGUF"))
    vocab, outline = out / "vocab.gguf", out / "outline.json"
    outlines.write_outline(out, vocab, outline, name=reference.short)


def _write_config(folder: Path, out: Path, config: dict[str, Any], where: Where) -> None:
    """Write what is known of the three files: anything else could reach code of other programs."""
    dropped = ("torch_dtype", "_name_or_path")  # the second one is a path of another machine
    config = {key: value for key, value in config.items() if key not in dropped}
    config["dtype"] = "bfloat16"
    family = families.of(config["architectures"][0])
    kept, left = architecture.known(folder, "config.json", config, family.keys)
    write_json(out / "config.json", kept)
    name = "tokenizer_config.json"
    tokens = checkpoint.read(folder, name)
    for key in _ELSEWHERE:
        tokens.pop(key, None)
    kept, also = architecture.known(folder, name, tokens, known_keys.TOKENIZER)
    write_json(out / name, kept)
    # only the ids: a base's sampling settings are not carried over, and the converter would
    chosen = checkpoint.read(folder, "generation_config.json")
    ids = {key: value for key, value in chosen.items() if key.endswith("_token_id")}
    known = dict.fromkeys(ids, known_keys.ids)
    write_json(
        out / "generation_config.json",
        architecture.known(folder, "generation_config.json", ids, known)[0],
    )
    for line in filter(None, (left, also)):
        where.say(line)


def _write_weights(
    source: Path,
    target: Path,
    where: Where,
    told: Callable[[int], None] = lambda weights: None,
    merged: Merged | None = None,
) -> None:
    """One dtype from here on: bf16. Training, merging and conversion then never round again.

    float32 loses 16 bits and float16 three, both less than any quantization does; in return nothing
    overflows in training, as it can in float16.
    """
    found = checkpoint.header(source)
    kinds = {tensor["dtype"] for tensor in found.values()}
    changed = merged.loras.keys() & found.keys() if merged else set()
    if kinds == {"BF16"} and not changed:
        shutil.copyfile(source, target)
        bf16.check(target, told, source)  # the copy: the source may change meanwhile
        return
    if others := ", ".join(sorted(kinds - {"BF16"})):
        where.say(f"{source.name}: weights in {others} are kept in bf16")
    with opened([source]) as weights:

        def blocks(name: str) -> Iterator[Any]:
            rows = bf16.stored(weights, name)
            if merged and name in changed:
                rows = bf16.merged(merged, name)
            for block in rows:
                yield block
                told(block.numel())

        shapes = {name: tensor.shape for name, tensor in weights.tensors.items()}
        bf16.write(target, shapes, blocks, source)


def _license(folder: Path) -> str:
    for name in LICENSES:
        if (folder / name).is_file():
            return _beginning(folder / name)
    card = folder / "README.md"
    text = _beginning(card) if card.is_file() else ""
    found = re.search(r"^license:[ \t]*(\S.*)$", text.partition("\n---")[0], re.MULTILINE)
    return found[1].strip() if found else ""


def _beginning(file: Path) -> str:
    """A licence is no longer than this, and a card says it at its start."""
    with file.open(encoding="utf-8", errors="replace") as text:
        return text.read(1 << 20)
