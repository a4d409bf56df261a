"""A model whose modules have their weights only while they compute: memory is the largest one's.

    bare = waiting(model)                      # a model on torch's meta device
    with brought(bare, read): model(...)       # read: a weight, or rows of it, by its name

Of an embedding only the rows are read that are looked up; a large linear module, as over the whole
vocabulary, is computed in blocks of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGE = 1 << 26  # weights: 256 MB in float32
Bare = list[tuple[Any, dict[str, str]]]


class Read(Protocol):
    """A weight by its name in the files, in float32; some of its rows."""

    def __call__(
        self, name: str, start: int = 0, stop: int | None = None, /
    ) -> NDArray[np.float32]:
        """Shape as stored."""


def waiting(model: Any) -> Bare:
    """Modules without weights, and the names of these in the files of base and adapter.

    A weight that two modules share has the name of the first.
    """
    first: dict[int, str] = {}
    found = []
    for path, module in model.named_modules():
        names = {}
        for own, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                names[own] = first.setdefault(id(parameter), _name(path, own))
        for own, _ in module.named_buffers(recurse=False):
            if own not in module._non_persistent_buffers_set:  # the others are in no file
                names[own] = _name(path, own)
        if names:
            found.append((module, names))
    return found


def _name(path: str, own: str) -> str:
    """The adapter's a.lora_A for `….a.lora_A.default`, the base's a for `….a.base_layer`."""
    if path.endswith((".lora_A.default", ".lora_B.default")):
        return f"{path.removesuffix('.default')}.{own}"
    return f"{path.removeprefix('base_model.model.').removesuffix('.base_layer')}.{own}"


@contextmanager
def brought(waiting: Bare, read: Read) -> Iterator[None]:
    """Each of these modules has its weights while it computes."""
    undo: list[Callable[[], object]] = []
    try:
        for module, names in waiting:
            if _is_large_linear(module):
                undo.append(_in_blocks(module, names, read))
                continue
            bring = module.register_forward_pre_hook(partial(_bring, names, read))
            undo += [bring.remove, module.register_forward_hook(partial(_take, names)).remove]
        yield
    finally:
        for each in undo:
            each()


def _bring(names: dict[str, str], read: Read, module: Any, given: Any) -> None:
    import torch

    for own, name in names.items():
        if own in module._buffers:
            module._buffers[own] = torch.from_numpy(read(name))
            continue
        if isinstance(module, torch.nn.Embedding):
            weight = _looked_up(module.weight.shape, given[0], partial(read, name))
        else:
            weight = torch.from_numpy(read(name))
        module._parameters[own] = torch.nn.Parameter(weight, requires_grad=False)


def _take(names: dict[str, str], module: Any, _: object, __: object) -> None:
    for own in names.keys() & module._parameters.keys():
        module._parameters[own] = module._parameters[own].to("meta")


def _looked_up(shape: Any, ids: Any, rows: Callable[[int, int], NDArray[np.float32]]) -> Any:
    """An embedding's weights of which only these rows are there: the others take no memory."""
    import torch

    weight = torch.empty(shape, dtype=torch.float32)
    for token in ids.unique().tolist():
        weight[token] = torch.from_numpy(rows(token, token + 1))[0]
    return weight


def _is_large_linear(module: Any) -> bool:
    import torch

    return type(module) is torch.nn.Linear and module.weight.numel() > LARGE


def _in_blocks(module: Any, names: dict[str, str], read: Read) -> Callable[[], object]:
    """Let a linear module compute some of its outputs after others; how to undo it."""
    import torch

    step = max(1, LARGE // 4 // module.in_features)

    def forward(given: Any) -> Any:
        found = given.new_empty(*given.shape[:-1], module.out_features)
        for start in range(0, module.out_features, step):
            stop = min(start + step, module.out_features)
            parts = {own: torch.from_numpy(read(n, start, stop)) for own, n in names.items()}
            some = torch.nn.functional.linear(given, parts["weight"], parts.get("bias"))
            found[..., start:stop] = some
        return found

    module.forward = forward
    return partial(delattr, module, "forward")
