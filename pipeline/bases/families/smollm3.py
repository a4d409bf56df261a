"""SmolLM3: a Llama of which every fourth layer knows no positions."""

from __future__ import annotations

from typing import Any

from pipeline.bases import known_keys
from pipeline.bases.families.family import WITHOUT_TENSOR, Family, Gguf
from pipeline.bases.families.from_keys import positions, sizes
from pipeline.bases.gguf_keys import Keys

EVERY = 4  # llama.cpp, src/models/smollm3.cpp: n_no_rope_layer_step


def config(key: Keys) -> dict[str, Any]:
    """config.json from the keys of a GGUF."""
    return {
        **sizes(key),
        **positions(key),
        "no_rope_layer_interval": EVERY,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "use_sliding_window": False,
    }


def fault(config: dict[str, Any]) -> str:
    """Why llama.cpp would compute something else; '' if it does not."""
    layers = config.get("num_hidden_layers") or 0
    wanted = [int((i + 1) % EVERY != 0) for i in range(layers)]
    said = config.get("no_rope_layers")
    if said not in (None, wanted) or config.get("no_rope_layer_interval") not in (None, EVERY):
        return f"other layers than every {EVERY}th have no positions (no_rope_layers)"
    return ""


FAMILY = Family(
    "SmolLM3ForCausalLM",
    "smollm3",
    scalings=WITHOUT_TENSOR,
    more_keys={
        "no_rope_layers": known_keys.ids,
        "no_rope_layer_interval": known_keys.number,
    },
    fault=fault,
    gguf=Gguf("smollm3", config),
)
