"""A model by its config.json, without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def empty(folder: Path, **other: Any) -> Any:
    """transformers' model of a directory on torch's meta device, to be computed in float32.

    Args:
        other: values that take the place of those in config.json.
    """
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False, **other
    )
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    model.tie_weights()
    return model
