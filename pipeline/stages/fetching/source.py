"""What a source gives to fetch beside the files that it writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """The base's own chat template and licence."""

    template: str
    """Jinja; '' where the base has none."""
    license: str
    """Text or name; '' if unknown."""
