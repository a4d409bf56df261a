"""The child of `write_outline`, with the arguments DIRECTORY NAME VOCAB OUT VOCABULARY.

It imports llama.cpp's converter, whose modules and gguf-py must not be mixed with the installed
ones, and hands it tensors of row numbers instead of weights.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.bases import checkpoint
from pipeline.common import places
from pipeline.tools.children import die_with_us
from pipeline.tools.outline import Outline, Tensor

COLUMNS = 2  # of the numbered tensors: two are enough to detect a permutation or a transpose
COUNTED = 24  # bits: whole numbers that float32 tells apart
LONGEST = 4096  # rows of a block whose order repeats itself: the stream holds a block in memory
Found = dict[str, tuple[str, Any]]  # by name in the GGUF: name in the directory, what came out


def main() -> None:
    """Write the keys and the outline."""
    die_with_us()
    folder, name, vocab, out, vocabulary = sys.argv[1:]
    sys.path[:0] = [str(places.llama_cpp()), str(places.llama_cpp() / "gguf-py")]
    import torch

    with torch.inference_mode():
        model = _converter(Path(folder), name, Path(vocab))
        shapes = {tensor: tuple(load().shape) for tensor, load in model.model_tensors.items()}
        try:
            tensors, unknown = _described(model, shapes, _run(model, shapes))
        except Exception as error:  # what it does depends on more than two columns
            model = _converter(Path(folder), name, Path(vocab))
            tensors, unknown = [], _without(Path(folder), error)
        if not vocabulary:
            model.set_vocab = lambda: None
        _write_keys(model)
    Path(out).write_text(Outline(tensors=tuple(tensors), unknown=unknown).model_dump_json())


def _without(folder: Path, error: Exception) -> str:
    """What it says, but not where: the outline is the same wherever the base lay."""
    words = str(error).replace(str(folder), "…").replace(str(folder.resolve()), "…")
    return f"the converter fails on numbered tensors: {words}"


def _converter(folder: Path, name: str, vocab: Path) -> Any:
    """The converter's object for a directory, as its command line makes it."""
    import gguf
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    hparams = ModelBase.load_hparams(folder, False)
    kind = get_model_class(get_model_architecture(hparams, ModelType.TEXT), mmproj=False)
    return kind(folder, gguf.LlamaFileType.MOSTLY_F16, vocab, model_name=name)


def _run(model: Any, shapes: dict[str, tuple[int, ...]]) -> Found:
    """Let it prepare numbered tensors; what came out of its `modify_tensors`."""
    found: Found = {}
    modify = model.modify_tensors

    def noted(data: Any, name: str, block: int | None) -> Iterator[tuple[str, Any]]:
        results: Iterable[tuple[str, Any]] = modify(data, name, block)
        for new, result in results:
            found[new] = (name, result.clone())
            yield new, result

    model.modify_tensors = noted
    marks = _marks(shapes)
    model.model_tensors = {n: _numbered(shape, marks[n]) for n, shape in shapes.items()}
    model.prepare_tensors()
    return found


def _marks(shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """A number for each tensor: no two of one shape hold the same, and no single one is 0.

    The numbers begin anew after half a step: after 14 embeddings of 500,000 rows, 254 tensors of
    30,000 rows, a thousand of 8,192; a model has one or two a layer.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    marks = {}
    for name, shape in shapes.items():
        marks[name] = seen[shape] % max(_step(shape) // 2 - COLUMNS, 1) + 3 * (shape == (1,))
        seen[shape] += 1
    return marks


def _step(shape: tuple[int, ...]) -> int:
    """From row to row, as far as the last one can still be counted.

    A smaller constant, such as a mark, is told from a row.
    """
    return 1 << max(COUNTED - max(shape[0] - 1, 1).bit_length(), 2) if shape else 1


def _numbered(shape: tuple[int, ...], mark: int = 0) -> Callable[[], Any]:
    """Row i holds step * i + mark, and one more; element i of a vector holds step * i + mark."""
    import torch

    few = tuple(min(COLUMNS, length) for length in shape[1:])

    def load() -> Any:
        rows = _step(shape) * torch.arange(shape[0], dtype=torch.float32) + mark
        columns = torch.arange(torch.Size(few).numel(), dtype=torch.float32)
        return (rows[:, None] + columns).reshape(shape[0], *few)

    return load


def _described(
    model: Any, shapes: dict[str, tuple[int, ...]], found: Found
) -> tuple[list[Tensor], str]:
    """Every tensor in the converter's order, and the first that cannot be described."""
    tensors, unknown = [], ""
    marks, stored = _marks(shapes), _stored(model)
    (infos,) = model.gguf_writer.tensors
    for name, info in infos.items():
        source, result = found[name]
        kind = info.dtype.name
        tensor = None
        if source not in shapes:
            if result.dim() == 1 and kind == "F32":
                values = tuple(result.tolist())
                tensor = Tensor(
                    name=name, shape=result.shape, kind=kind, source=None, values=values
                )
        elif source in stored and kind in ("F16", "F32"):
            whole = shapes[source]
            if known := _rows(result, whole, marks[source]):
                shape = (int(result.shape[0]), *whole[1:])
                info.shape, info.nbytes = shape, 0  # the keys hold a count of all weights
                tensor = Tensor(
                    name=name,
                    shape=shape,
                    kind=kind,
                    source=stored[source],
                    order=known[0],
                    added=known[1],
                )
        if tensor:
            tensors.append(tensor)
        else:
            unknown = unknown or f"{name}, made of {source}"
    return tensors, unknown


def _stored(model: Any) -> dict[str, str]:
    """What the tensors in the directory's files are called there, by what the converter calls them.

    It leaves some out (what belongs to eyes), and gives others a name of its own.
    """
    files = [model.dir_model / name for name in checkpoint.weight_files(model.dir_model)]
    names = [name for file in files for name in checkpoint.header(file)]
    called = ((model.filter_tensors((name, None)), name) for name in names)
    return {found[0]: name for found, name in called if found}


def _rows(
    result: Any, whole: tuple[int, ...], mark: int = 0
) -> tuple[tuple[int, ...], float] | None:
    """The order of rows and the constant that explain what came out; None if nothing does."""
    import torch

    if whole == (1,):  # a single number is as it was, or nobody knows what was done to it
        return ((), 0.0) if result.tolist() == [float(mark)] else None
    if not whole or whole[0] < 2:
        return None
    wide = min(COLUMNS, whole[1]) if len(whole) == 2 else 1
    if len(whole) > 2 or result.shape[1:] != (wide,)[: len(whole) - 1]:
        return None
    flat, step = result.reshape(result.shape[0], wide).double() - mark, _step(whole)
    order = (flat[:, 0] / step).round().long()
    added = float(flat[0, 0]) - step * int(order[0])
    columns = torch.arange(wide, dtype=torch.float64)
    if not bool((flat == order[:, None] * step + columns + added).all()):
        return None
    if order.sort().values.tolist() != list(range(len(order))):  # rows were left out or doubled
        return None
    block = _block(order)
    return (block, added) if len(block) <= LONGEST else None


def _block(order: Any) -> tuple[int, ...]:
    """The shortest block whose order repeats itself through all rows; () if it is that they have.

    Llama's rows of q and k are reordered within each head: the block is a head.
    """
    import torch

    count = len(order)
    if bool((order == torch.arange(count)).all()):
        return ()
    for size in (n for n in range(2, count + 1) if count % n == 0):
        first = order[:size]
        starts = torch.arange(0, count, size)[:, None]
        if int(first.max()) < size and bool((order.reshape(-1, size) == first + starts).all()):
            return tuple(first.tolist())
    raise AssertionError("the whole is a block of itself")


def _write_keys(model: Any) -> None:
    """All keys, and no tensor."""
    model.prepare_metadata(vocab_only=False)
    writer = model.gguf_writer
    writer.tensors = [{}]
    writer.write_header_to_file(path=model.fname_out)
    writer.write_kv_data_to_file()
    writer.close()


if __name__ == "__main__":
    main()
