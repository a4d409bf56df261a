"""Qwen 2 and 2.5, dense."""

from pipeline.bases.families.family import Family

FAMILY = Family("Qwen2ForCausalLM", "qwen2")
