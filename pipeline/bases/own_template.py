"""The chat template that a Hugging Face directory brings, wherever it keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.bases import checkpoint
from pipeline.common.errors import BadInput
from pipeline.common.foreign import listed

BYTES = 1 << 20  # a chat template has some thousand
SWITCH = "enable_thinking"
"""By this name a template is told whether answers begin with thoughts."""


def read(folder: Path) -> str:
    """Its Jinja; '' if there is none.

    Raises:
        BadInput: several by name and none for plain conversations, or one too large to be one.
    """
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _text(file)
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = checkpoint.read(folder, name).get("chat_template")
        if isinstance(found, list):  # several, by name
            found = _default(folder / name, found)
        if isinstance(found, str):
            return found
    if more := sorted(file.stem for file in folder.glob("additional_chat_templates/*.jinja")):
        raise _none_is_the_default(folder, more)
    return ""


def _text(file: Path) -> str:
    if file.stat().st_size > BYTES:
        raise BadInput(
            f"{file} has {file.stat().st_size} bytes: that is no chat template",
            "Get the file again.",
        )
    try:
        return file.read_text(encoding="utf-8")
    except ValueError as error:
        raise BadInput(f"{file} is no text: {error}", "Get the file again.") from error


def _default(file: Path, several: list[Any]) -> str | None:
    """The one of several chat templates that is for plain conversations."""
    pairs = [(t.get("name"), t.get("template")) for t in several if isinstance(t, dict)]
    named = {name: text for name, text in pairs if isinstance(name, str)}
    if named and not isinstance(named.get("default"), str):
        raise _none_is_the_default(file, sorted(named))
    return named.get("default")


def _none_is_the_default(where: Path, names: list[str]) -> BadInput:
    return BadInput(
        f"{where} has the chat templates {listed(names)}, and none is the default",
        "Put the one to train and serve with beside config.json, as chat_template.jinja.",
    )
