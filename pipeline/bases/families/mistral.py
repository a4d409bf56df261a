"""Mistral, as a directory; llama.cpp computes it as a Llama, and so a GGUF of it is one."""

from __future__ import annotations

from functools import partial

from pipeline.bases.families.family import Family, no_shorter_window

WINDOW = 4096
"""transformers takes it where config.json has no sliding_window."""

FAMILY = Family("MistralForCausalLM", "mistral", fault=partial(no_shorter_window, silent=WINDOW))
