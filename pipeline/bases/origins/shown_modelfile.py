"""The `modelfile` that /api/show gives: which files a model is made of, its RENDERER and PARSER.

Ollama writes it in this order (server/images.go, Model.String): FROM, ADAPTERs, DRAFT, FROM of each
projector, TEMPLATE, SYSTEM, RENDERER, PARSER, and the rest. TEMPLATE, SYSTEM and LICENSE are a
stranger's and may hold any line, `FROM /a/file` too: nothing of them is read as a command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FILES = ("FROM", "ADAPTER", "DRAFT")
_CODE = ("RENDERER", "PARSER")


def files(modelfile: str) -> list[tuple[str, str]]:
    """What it is made of, in order: (FROM, ADAPTER or DRAFT; path). They stand before all texts."""
    found = []
    for line in modelfile.split("\n"):
        word, _, rest = line.partition(" ")
        if word in _FILES:
            found.append((word, rest.strip().strip('"')))
        elif line.strip() and not line.startswith("#"):
            break
    return found


def code(told: Mapping[str, Any]) -> dict[str, str]:
    """Its RENDERER and PARSER; they stand behind the two texts, which are known to the letter.

    A model that has one shows the TEMPLATE of its Modelfile. Where another is shown, that is its
    GGUF's own, which is run only by models that have neither (routes.go, selectedModelTemplate).

    Args:
        told: the reply of /api/show.
    """
    template, system = (str(told.get(name) or "") for name in ("template", "system"))
    texts = f"\nTEMPLATE {_quoted(template)}\n"
    texts += f"SYSTEM {_quoted(system)}\n" if system else ""
    behind = str(told.get("modelfile") or "").partition(texts)[2]
    found: dict[str, str] = {}
    for line in behind.split("\n"):
        word, _, rest = line.partition(" ")
        if word not in _CODE:
            break
        found[word] = rest.strip()
    return found


def _quoted(text: str) -> str:
    """As Ollama writes a text (parser/parser.go, quote)."""
    if "\n" in text or text.startswith(" ") or text.endswith(" "):
        return f'"""{text}"""' if '"' in text else f'"{text}"'
    return text
