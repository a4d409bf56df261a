"""Mistral, as a directory; llama.cpp computes it as a Llama, and so a GGUF of it is one."""

from __future__ import annotations

from pipeline.bases.families.family import Family, no_shorter_window

FAMILY = Family("MistralForCausalLM", "mistral", fault=no_shorter_window)
