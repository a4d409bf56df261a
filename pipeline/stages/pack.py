"""Base + adapter to quantized GGUFs in one stream, and the checks that it did its work.

Every adapted module must differ in the stored weights, no weight may be NaN or infinite, the merged
weights must compute what base + adapter compute.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.bases.gguf_keys import TEMPLATE
from pipeline.bases.reference import Original
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.common.progress import Progress
from pipeline.common.values import read_json, whole
from pipeline.made.artifacts import Adapter, Base, Dataset, Packed
from pipeline.made.stage import Stage, Where, like_before
from pipeline.stages.packing import arithmetic, comparison, kernels, long_road, losses, stream, tree
from pipeline.stages.packing.adapter import opened_adapter
from pipeline.stages.packing.merged import Merged
from pipeline.stages.packing.over_gguf import OverGguf, over_gguf
from pipeline.stages.packing.target import Target, in_order, merge_dtype, target
from pipeline.stages.packing.text_file import opened_by_llama, text_file
from pipeline.stages.packing.weights import Weights, opened
from pipeline.stages.settings import Pack
from pipeline.tools import heap, llamacpp, outline
from pipeline.tools.gguf_layout import layout
from pipeline.tools.gguf_values import text

STAGE = Stage(
    "pack",
    version=3,
    settings=Pack,
    inputs={"base": Base, "adapter": Adapter, "data": Dataset, "original": Original},
    makes=Packed,
    expected=like_before(40),
    pinned=(llamacpp.REVISION,),
)

STREAMED = 0.5  # share of the stage that the stream takes, about; the rest is the comparison


def run(
    out: Path,
    settings: Pack,
    base: Base,
    adapter: Adapter,
    data: Dataset,
    original: Original,
    *,
    where: Where,
) -> Packed:
    """Merge, quantize, compare.

    Raises:
        BadInput: a quantization that llama.cpp does not know, an adapter that cannot be merged, a
            base's own type that would undo the training.
        Missing: the base's GGUF has gone.
        ToolFailed: a weight that is no number, a merge without effect, or with another effect.
    """
    heap.give_back()
    types = settings.types
    for name in types:
        check_type(name)
    files = {name: out / file for name, file in Packed.names(types).items()}
    known = outline.read(base.outline)
    scratch = out / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with opened(base.weights) as weights, opened_adapter(adapter.path, weights) as loras:
        touched = set(loras)  # an adapter that cannot be merged is refused, whichever road is taken
    if original.digest:
        over = over_gguf(original, base, known)
        merged = _over_gguf(files, over, touched, base, adapter, scratch, where)
    elif known.unknown:
        where.say(f"{base.architecture} is packed the long way: {known.unknown}")
        merged = _long_road(files, base, adapter, scratch, where)
    else:
        merged = _stream(files, known, base, adapter, scratch, where)
    where.report(Progress(STREAMED, 1, "comparing with base + adapter"))
    for weights_of in merged:
        agreement = _compare(base, adapter, data, weights_of, where)
        where.say(f"merged and unmerged agree: {agreement}")
        loss = agreement.loss  # of base + adapter: the same for all
    if original.digest:
        original.check()  # what was copied is what was checked
        _check_gain(files, over, touched, base, data, loss, scratch, where)
    for file in files.values():
        _check_file(file, base, scratch)
    shutil.rmtree(scratch)
    where.report(Progress(1, 1))
    size = files[types[0]].stat().st_size
    return Packed.at(out, quantization=types[0], size=size, loss=loss)


def check_type(name: str) -> None:
    """Refuse a quantization that the installed llama.cpp cannot make.

    Raises:
        BadInput: with the names that it can.
    """
    known = llamacpp.quantization_types()
    if name not in known:
        raise BadInput(
            f"unknown quantization {name!r}", f"llama.cpp makes: {', '.join(sorted(known))}."
        )


def _stream(
    files: dict[str, Path],
    known: outline.Outline,
    base: Base,
    adapter: Adapter,
    scratch: Path,
    where: Where,
) -> list[MergedWeights]:
    targets = {file: target(known, base.vocab, name, scratch) for name, file in files.items()}
    if why := _without_kernels(targets.values()):
        where.say(f"quantizing with llama.cpp's own code, which is slower: {why}")

    def report(progress: Progress) -> None:
        where.report(Progress(STREAMED * progress.done, progress.total, progress.note))

    stream.write(
        opened(base.weights),
        adapter.path,
        in_order(known),
        targets,
        threads=where.threads,
        report=report,
    )
    kinds = dict.fromkeys(chosen.merge_dtype for chosen in targets.values())
    return [MergedWeights(partial(opened, base.weights), adapter.path, kind) for kind in kinds]


def _over_gguf(
    files: dict[str, Path],
    over: OverGguf,
    touched: set[str],
    base: Base,
    adapter: Adapter,
    scratch: Path,
    where: Where,
) -> list[MergedWeights]:
    targets = {f: over.target(name, touched, base.template, scratch) for name, f in files.items()}
    if why := _without_kernels(targets.values()):
        where.say(f"quantizing with llama.cpp's own code, which is slower: {why}")

    def report(progress: Progress) -> None:
        where.report(Progress(STREAMED * progress.done, progress.total, progress.note))

    stream.write(
        over.opened(), adapter.path, over.tensors, targets, threads=where.threads, report=report
    )
    kinds = dict.fromkeys(chosen.merge_dtype for chosen in targets.values())
    return [MergedWeights(over.opened, adapter.path, kind) for kind in kinds]


def _without_kernels(targets: Iterable[Target]) -> str:
    """Why some types are not made by our kernels; '' if all are that have one."""
    if why := kernels.missing():
        return why
    if not arithmetic.compiled():
        return "ours merges and rounds to other bits than numpy here"
    kinds = {entry.kind for target in targets for entry in target.entries.values()}
    doubtful = kernels.doubtful(kinds)
    return f"ours makes other bytes of {', '.join(doubtful)} here" if doubtful else ""


def _long_road(
    files: dict[str, Path], base: Base, adapter: Adapter, scratch: Path, where: Where
) -> list[MergedWeights]:
    kinds = dict.fromkeys(map(merge_dtype, files))
    stream.check_room(scratch, base.parameters * (2 * len(kinds) + 4))  # merged, converted, final
    for i, (name, file) in enumerate(files.items()):
        where.report(Progress(STREAMED * i / len(files), 1, f"merge, convert, quantize to {name}"))
        kind = merge_dtype(name)
        if not (scratch / kind).exists():
            long_road.merge(base.path, adapter.path, scratch / kind, kind)
        with whole(file) as beside:
            long_road.quantize(
                scratch / kind, beside, name, kind, name=_name(base), threads=where.threads
            )
    return [
        MergedWeights(
            partial(opened, [scratch / kind / "model.safetensors"]),
            None,
            kind,
            partial(opened, base.weights),
        )
        for kind in kinds
    ]


def _name(base: Base) -> str:
    """As the stream takes it over, with the other keys."""
    import gguf

    field = gguf.GGUFReader(str(base.vocab)).get_field("general.name")
    return str(field.contents()) if field else ""


@dataclass(frozen=True)
class MergedWeights:
    """The merged weights as they are before they are quantized."""

    weights: Callable[[], AbstractContextManager[Weights]]
    adapter: Path | None
    """To be merged into them; None where that is done."""
    merge_dtype: str
    unmerged: Callable[[], AbstractContextManager[Weights]] | None = None
    """The base's, where `weights` are not."""


def _compare(
    base: Base, adapter: Adapter, data: Dataset, stored: MergedWeights, where: Where
) -> comparison.Agreement:
    import torch

    torch.set_num_threads(where.threads)
    with ExitStack() as stack:
        weights = stack.enter_context(stored.weights())
        plain = stack.enter_context(stored.unmerged()) if stored.unmerged else weights
        loras = (
            stack.enter_context(opened_adapter(stored.adapter, weights)) if stored.adapter else {}
        )
        return comparison.check(
            base.path,
            adapter.path,
            _probes(base, data),
            partial(Merged(plain, {}).whole, kind="F32"),
            partial(Merged(weights, loras).whole, kind=stored.merge_dtype),
            stored.merge_dtype,
        )


def _probes(base: Base, data: Dataset) -> tree.Tree:
    """What merged and unmerged are compared on."""
    vocabulary = int(read_json(base.path / "config.json")["vocab_size"])
    return tree.probes(data, tree.rows_of(vocabulary))


def _check_gain(
    files: dict[str, Path],
    over: OverGguf,
    touched: set[str],
    base: Base,
    data: Dataset,
    tuned: float | None,
    scratch: Path,
    where: Where,
) -> None:
    """Refuse a file whose type undoes the training: measured, where it is the base's own type.

    Raises:
        BadInput: what it keeps of the gain.
    """
    for name, file in files.items():
        if tuned is None or not over.own_grid(file, touched):
            continue
        where.report(Progress(0.9, 1, f"what {name} keeps of the training"))
        held = _probes(base, data).held
        with text_file(over.paths, over.part, scratch, weights=True) as plain:
            before = losses.of(plain, held, where.threads)
        with opened_by_llama(file, scratch, weights=True) as plain:
            after = losses.of(plain, held, where.threads)
        kept = losses.kept(before, tuned, after)
        where.say(
            f"{name} is the type that the base came in; of the training's gain it keeps {kept:.0%}"
            f" (loss {before:.2f} before, {tuned:.2f} trained, {after:.2f} stored as {name})"
        )
        if kept < losses.LEAST:
            finer = "F16" if name.startswith("Q8") else "Q8_0"
            raise BadInput(
                f"{name} would undo the training: the base's weights lie on its grid, and of the"
                f" gain it keeps {kept:.0%} (loss {before:.2f} before, {tuned:.2f} trained,"
                f" {after:.2f} stored as {name})",
                f"Take a finer type: --quantize {finer}",
            )


def _check_file(file: Path, base: Base, scratch: Path) -> None:
    """The GGUF opens, carries the frozen template, and ends a turn where training did."""
    if layout(file).keys.get(TEMPLATE) != text(base.template):
        raise ToolFailed("the frozen chat template was not carried over")
    with (
        opened_by_llama(file, scratch, weights=False) as plain,
        llamacpp.Model(plain) as model,
    ):
        if not model.is_end(base.end_of_turn):
            raise ToolFailed(f"generation would not end at {base.end_of_turn_text}")
