"""Qwen 3, dense."""

from pipeline.bases.families.family import Family

FAMILY = Family("Qwen3ForCausalLM", "qwen3")
