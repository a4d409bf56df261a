"""Every choice that decides what is made: one frozen value a stage, part of its key."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Plain values, frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fetch(Settings):
    """Nothing to choose: a base is what it is."""
