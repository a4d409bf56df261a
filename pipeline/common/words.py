"""Numbers in words, as people read them."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes: `3.1 GB`, `269 MB`, `4 kB`."""
    for unit, number in (("GB", 1e9), ("MB", 1e6)):
        if count >= number:
            return f"{count / number:.1f} {unit}" if unit == "GB" else f"{count / number:.0f} MB"
    return f"{count / 1e3:.0f} kB"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
