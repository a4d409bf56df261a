"""A model whose modules have their weights only while they compute: memory is the largest one's.

bare = waiting(model)                      # a model on torch's meta device
with brought(bare, read): model(...)       # read: a weight by its name in the files
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Read = Callable[[str], NDArray[np.float32]]


def waiting(model: Any) -> list[tuple[Any, dict[str, str]]]:
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
        if names:
            found.append((module, names))
    return found


def _name(path: str, own: str) -> str:
    """The adapter's a.lora_A for `….a.lora_A.default`, the base's a for `….a.base_layer`."""
    if path.endswith((".lora_A.default", ".lora_B.default")):
        return f"{path.removesuffix('.default')}.{own}"
    return f"{path.removeprefix('base_model.model.').removesuffix('.base_layer')}.{own}"


@contextmanager
def brought(waiting: list[tuple[Any, dict[str, str]]], read: Read) -> Iterator[None]:
    """Each of these modules has its weights while it computes."""
    import torch

    def bring(names: dict[str, str], module: Any, _: object) -> None:
        for own, name in names.items():
            weight = torch.from_numpy(read(name))
            module._parameters[own] = torch.nn.Parameter(weight, requires_grad=False)

    def take(names: dict[str, str], module: Any, _: object, __: object) -> None:
        for own in names:
            module._parameters[own] = module._parameters[own].to("meta")

    hooks = []
    for module, names in waiting:
        hooks.append(module.register_forward_pre_hook(partial(bring, names)))
        hooks.append(module.register_forward_hook(partial(take, names)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
