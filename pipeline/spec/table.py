"""A table of the toml as a value."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """One table of the toml: every key optional, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
