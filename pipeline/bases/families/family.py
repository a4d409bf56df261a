"""What a family decides, with the values that most families share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.bases import known_keys
from pipeline.bases.gguf_keys import Keys
from pipeline.bases.known_keys import Fits
from pipeline.tools.gguf_layout import Place

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SCALINGS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        *("factor", "low_freq_factor", "high_freq_factor"),
        "original_max_position_embeddings",
    ),
}
WITHOUT_TENSOR: Mapping[str, tuple[str, ...]] = {n: SCALINGS[n] for n in ("default", "linear")}
"""Those that are keys alone. Llama 3's is a tensor. The converter writes it for Llama and Mistral;
for Qwen and Gemma it leaves the scaling out and says nothing, for Granite it fails."""
EXPECTED: Mapping[str, Any] = {
    "hidden_act": "silu",
    "use_sliding_window": False,
    "partial_rotary_factor": 1.0,
}


class Number(Protocol):
    """A whole number of config.json by its key, which must be there if nothing stands for it."""

    def __call__(self, key: str, otherwise: int | None = None, /) -> int:
        """The number."""


Shapes = dict[str, tuple[int, ...]]


def gated(number: Number, layers: int, config: Mapping[str, Any]) -> Shapes:
    """Matrices of a model with grouped attention and a gated MLP, as Llama names them."""
    width, inner, heads = map(number, ("hidden_size", "intermediate_size", "num_attention_heads"))
    keys = number("num_key_value_heads", heads)
    head = number("head_dim", width // heads)
    shapes: Shapes = {"model.embed_tokens.weight": (number("vocab_size"), width)}
    for i in range(layers):
        attention, mlp = f"model.layers.{i}.self_attn", f"model.layers.{i}.mlp"
        shapes |= {
            f"{attention}.q_proj.weight": (heads * head, width),
            f"{attention}.k_proj.weight": (keys * head, width),
            f"{attention}.v_proj.weight": (keys * head, width),
            f"{attention}.o_proj.weight": (width, heads * head),
            f"{mlp}.gate_proj.weight": (inner, width),
            f"{mlp}.up_proj.weight": (inner, width),
            f"{mlp}.down_proj.weight": (width, inner),
        }
    return shapes


def _as_it_is(keys: dict[str, bytes], tensors: Mapping[str, Place]) -> dict[str, bytes]:
    return keys


def _nothing(keys: Mapping[str, bytes]) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Gguf:
    """How a GGUF file of the family becomes a Hugging Face directory.

    Names and order of its tensors are not said here: they are learnt from the converter, backwards.
    """

    architecture: str
    """Its `general.architecture`, which its keys begin with: `llama`."""
    config: Callable[[Keys], dict[str, Any]]
    """What its keys say in config.json."""
    normal: Callable[[dict[str, bytes], Mapping[str, Place]], dict[str, bytes]] = _as_it_is
    """Its keys in llama.cpp's form, of its keys and the language model's tensors: other programs
    write some otherwise."""
    silent: Mapping[str, str] = field(default_factory=dict)
    """Keys behind the architecture's name that the converter does not write though a file may have
    them, each with the reason why nothing is lost."""
    unread: Callable[[Mapping[str, bytes]], tuple[str, ...]] = _nothing
    """Of its keys: beginnings of names of tensors that a file may have and that nothing reads."""


def _none(config: dict[str, Any]) -> str:
    return ""


def no_shorter_window(config: dict[str, Any], silent: int | None = None) -> str:
    """llama.cpp lets this family attend to the whole text, whatever its config says.

    Args:
        silent: the window that transformers takes where the config has none.
    """
    window, context = config.get("sliding_window", silent), config.get("max_position_embeddings")
    if isinstance(window, int) and isinstance(context, int) and window < context:
        return f"it attends to {window} tokens (sliding_window), llama.cpp to all {context}"
    return ""


@dataclass(frozen=True)
class Family:
    """What is particular to a family."""

    architecture: str
    """Its name in `architectures` of config.json: `LlamaForCausalLM`."""
    model_type: str
    """Its name in `model_type` of config.json, by which transformers chooses the code."""
    targets: tuple[str, ...] = LINEAR
    """Names of the linear modules that are adapted."""
    shapes: Callable[[Number, int, Mapping[str, Any]], Shapes] = gated
    """Shapes of its matrices by config.json (its numbers, and all of it): the embedding and so many
    layers."""
    expected: Mapping[str, Any] = field(default_factory=lambda: EXPECTED)
    """What llama.cpp computes, unasked: keys of config.json, which must be absent or so."""
    scalings: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: SCALINGS)
    """Position scalings that the converter carries over, and the numbers that each needs."""
    needs: tuple[str, ...] = ()
    """Files of a directory without which the converter takes the vocabulary for another kind."""
    fault: Callable[[dict[str, Any]], str] = _none
    """Why llama.cpp would compute something else of a config.json than transformers; '' for none:
    what no key of it says alone."""
    attention: tuple[str, ...] = ("full_attention",)
    """What may stand in `layer_types` of config.json."""
    more_keys: Mapping[str, Fits] = field(default_factory=dict)
    """Keys of its config.json that other families do not have, and what each may hold."""
    gguf: Gguf | None = None
    """None where a GGUF of the family is not taken as a base."""

    @property
    def keys(self) -> dict[str, Fits]:
        """All keys of its config.json that go on."""
        return {**known_keys.CONFIG, **self.more_keys}
