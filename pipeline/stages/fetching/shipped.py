"""Chat templates that lie in this package (templates/), for a base that has none: on request only.

plain is for any base whose end of a text is one control token; the others for a base that has
their tokens, as pre-trained ones of those families do. The base was taught none of them, so the
rows have to teach it, and a base that was tuned to answer needs fewer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipeline.common.errors import BadInput

NAMES = ("plain", "chatml", "llama3", "gemma")
WAY_OUT = (
    "Take its instruction-tuned version (often called -Instruct, -it or -chat), or have a template"
    " taught by your rows: --template plain."
)
_TOKEN = re.compile(r"<[|\w]+>")


def read(name: str) -> str:
    """The Jinja of one of NAMES."""
    return (Path(__file__).parent / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def check(name: str, folder: Path, base: str, *, own: bool, eos: str) -> None:
    """Refuse a template that is not for this base.

    Args:
        folder: the tokenizer's.
        base: its name.
        own: it brings a template.
        eos: how the token that ends a text is spelled.

    Raises:
        BadInput: why.
    """
    if own:
        raise BadInput(
            f"--template {name}: the base {base} has a chat template of its own, which its makers"
            " trained it with",
            "Leave --template out.",
        )
    wanted = set(_TOKEN.findall(read(name))) or {eos}
    if missing := sorted(wanted - _control(folder)):
        what = " and ".join(token or "that ends a text (eos_token)" for token in missing)
        raise BadInput(
            f"--template {name}: the base {base} has no control token {what}",
            "Take another one: " + ", ".join(other for other in NAMES if other != name) + "."
            if name != "plain"
            else "An answer could not be ended in Ollama: take another base.",
        )


def _control(folder: Path) -> set[str]:
    """Spellings of the tokenizer's control tokens."""
    added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")).get("added_tokens")
    return {str(token["content"]) for token in added or () if token.get("special")}
