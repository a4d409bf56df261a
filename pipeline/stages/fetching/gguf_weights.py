"""A GGUF's tensors and hyperparameters as a Hugging Face checkpoint.

The converter of llama.cpp (conversion/llama.py) renames the tensors and reorders the rows of q and
k for its rotary embedding; this undoes both, by what the family says (bases/families). Read by
gguf-py, written in bf16: seconds for 135 M weights, where the loader of transformers takes twenty
to forty.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bases.families.family import Family, Gguf
from pipeline.common.errors import BadInput
from pipeline.common.values import write_json
from pipeline.stages.fetching import bf16

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_weights(
    reader: Any, family: Family, out: Path, report: Callable[[int, int], None]
) -> None:
    """Write model.safetensors in bf16.

    Args:
        reader: a gguf.GGUFReader of a model of the family.
        out: the Hugging Face directory.
        report: called with the number of tensors done and of all.

    Raises:
        BadInput: a tensor that the family does not have, or a weight that is not finite.
    """
    known = _known(family)
    tensors = {hugging_face_name(tensor.name, family): tensor for tensor in reader.tensors}
    heads = {name: int(_value(reader, known, key)) for name, key in known.rotated.items()}
    shapes = {name: tuple(int(n) for n in reversed(t.shape)) for name, t in tensors.items()}
    done = itertools.count(1)

    def blocks(name: str) -> Iterator[Any]:
        import torch
        from gguf.quants import dequantize

        tensor = tensors[name]
        plain = dequantize(tensor.data, tensor.tensor_type)
        if count := heads.get(_in_block(tensor.name)):
            plain = unpermuted(plain, count)
        yield torch.from_numpy(plain.copy())
        report(next(done), len(tensors))

    bf16.write(out / "model.safetensors", shapes, blocks, "the base's GGUF")


def hugging_face_name(name: str, family: Family) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    known = _known(family)
    if name in known.whole:
        return known.whole[name]
    block, rest = name.removeprefix("blk.").partition(".")[0], _in_block(name)
    if rest in known.in_block:
        return f"model.layers.{block}.{known.in_block[rest]}"
    raise BadInput(f"the base has a tensor {name}, which a plain {family.architecture} has not")


def _in_block(name: str) -> str:
    """`blk.3.attn_q.weight` -> `attn_q.weight`; '' outside the layers."""
    return name.removeprefix("blk.").partition(".")[2] if name.startswith("blk.") else ""


def _known(family: Family) -> Gguf:
    if family.gguf is None:
        raise BadInput(f"a GGUF of {family.architecture} is not taken as a base yet")
    return family.gguf


def unpermuted(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows in Hugging Face's order again; shape (heads * 2 * half, width) stays."""
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(weight.shape)


def _value(reader: Any, known: Gguf, name: str) -> Any:
    """A hyperparameter by its name without the architecture in front."""
    field = reader.get_field(f"{known.architecture}.{name}")
    if field is None:
        raise BadInput(f"the base's GGUF lacks the key {known.architecture}.{name}")
    return field.contents()


def write_config(reader: Any, family: Family, out: Path) -> None:
    """Write config.json and generation_config.json from the GGUF's keys."""
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    special = {
        f"{short}_token_id": int(field.contents())
        for short, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
        if (field := reader.get_field(f"tokenizer.ggml.{name}_token_id"))
    }
    known = _known(family)
    config = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        **known.config(partial(_value, reader, known)),
        "tie_word_embeddings": tied,
        "dtype": "bfloat16",
        **special,
    }
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json", special)
