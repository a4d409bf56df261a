"""What a user should know of a base before it is tuned: what it brings, and what that is for."""

from __future__ import annotations

from textwrap import shorten

from pipeline.bases.located import Installed
from pipeline.bases.reference import Reference
from pipeline.common.words import size
from pipeline.tools.gguf_types import BYTES_A_WEIGHT

FLOATS = ("", "F32", "F16", "BF16")


def remarks(base: Reference) -> list[str]:
    """Sentences about the base, the most important first."""
    return _quantized(base) + (_brought(base.installed, base) if base.installed else [])


def is_quantized(base: Reference) -> bool:
    """True of a base whose weights were rounded to a few bits before."""
    return base.weights not in FLOATS


def _quantized(base: Reference) -> list[str]:
    if not is_quantized(base) or base.origin == "embedded":  # there is no other build of that
        return []
    tag = base.installed.tag if base.installed else ""
    finer = f" (often called {tag.partition(':')[0]}:…-fp16)" if tag else ""
    finest, smaller = (size(int(base.parameters * BYTES_A_WEIGHT[k])) for k in ("Q8_0", "Q4_K_M"))
    return [
        f"the base is quantized ({base.weights}): trained are exactly the weights that it serves,"
        f" with the rounding in them; a 16-bit build of the same model{finer} starts without it:"
        f" {size(2 * base.parameters)} to get, a specialist of {smaller} in Q4_K_M instead of"
        f" up to {finest}"
    ]


def _brought(installed: Installed, base: Reference) -> list[str]:
    """What a model in Ollama has beside its weights: its author's, not the specialist's."""
    found = []
    if installed.system:
        text = shorten(installed.system, 60, placeholder=" …")
        found.append(f"SYSTEM of {installed.tag} is not taken over: “{text}”")
    if installed.parameters:
        said = ", ".join(f"{name} {value}" for name, value in installed.parameters.items())
        said = shorten(said, 100, placeholder=" …")
        found.append(
            f"PARAMETERs of {installed.tag} are not taken over: {said}; write into the Modelfile"
            " those that the specialist shall have"
        )
    if installed.messages:
        found.append(f"{installed.messages} MESSAGEs of {installed.tag} are not taken over")
    if base.own_template and (installed.template or installed.renderer):
        what = f"RENDERER {installed.renderer}" if installed.renderer else "TEMPLATE"
        found.append(
            f"{what} of {installed.tag} is not taken over: trained and served is with the chat"
            " template in its GGUF, which its authors trained it with"
        )
    return found
