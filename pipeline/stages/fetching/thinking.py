"""Whether answers begin with thoughts: decided once, and written into the frozen template.

A server says `enable_thinking` as it likes: unset, false and true must give one prompt, the one
that was trained. So the template sets it by itself, by the name that it reads. Where plain answers
are trained and the template opens thoughts all the same (R1, QwQ), the prompt ends them at once,
as llama.cpp's own template for R1 does. They stand in the prompt, and are never learned. Both tags
stay readable in the template: Ollama finds by them that it can think, and answers 400 to
`think: true` elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.bases.asked import MARKS, Asked
from pipeline.bases.own_template import SWITCH
from pipeline.common.errors import BadInput

NAMES = (SWITCH, "thinking", "reasoning")
"""What templates read; Ollama and llama.cpp say the first one only."""
PLAIN = f"{{% set {SWITCH} = false %}}\n"
TAGS = ("<think>", "</think>")
"""Those that a row's thoughts stand between."""


class Ask(Protocol):
    """Renders a question and its answer, with names set as a server would."""

    def __call__(self, template: str, **names: bool) -> Asked: ...


@dataclass(frozen=True)
class Settled:
    """A template for which it is decided."""

    template: str
    names: dict[str, bool] = field(default_factory=dict)
    """What it sets by itself."""
    tail: str = ""
    """What it adds to a prompt."""


def settle(template: str, name: str, ask: Ask, on: bool) -> Settled:
    """Decide it.

    Args:
        template: pinned otherwise.
        name: whose it is, for messages.
        on: answers begin with thoughts.

    Raises:
        BadInput: there are to be thoughts, and it knows none.
    """
    if on:
        return _on(template, name)
    known, names = ask(template), dict[str, bool]()
    if any(ask(template, **{SWITCH: state}) != known for state in (True, False)):
        template, names = PLAIN + template, {SWITCH: False}
        known = ask(template)
    for other in _read(template, NAMES) if known.opened else ():
        silent = f"{{% set {other} = false %}}\n{template}"
        if not ask(silent).opened:
            return Settled(silent, {**names, other: False})
    if not known.opened:
        return Settled(template, names)
    tail = MARKS[known.opened]  # no blank behind: llama.cpp would show it in front of each answer
    return Settled(f"{template.removesuffix(chr(10))}{_at_the_end(tail)}", names, tail)


def _on(template: str, name: str) -> Settled:
    if not all(tag in template for tag in TAGS):
        raise BadInput(
            f"answers of the rows begin with thoughts, and the base {name} has none: its chat"
            " template does not know <think>",
            "Take a base that thinks, or leave the thoughts out of the rows.",
        )
    names = dict.fromkeys(_read(template, NAMES[:2]), True)
    lines = "".join(f"{{% set {other} = true %}}\n" for other in names)
    return Settled(lines + template, names)


def _at_the_end(tail: str) -> str:
    return f"{{% if add_generation_prompt %}}{{{{ '{tail}' }}}}{{% endif %}}"


def _read(template: str, names: tuple[str, ...]) -> Iterator[str]:
    """Those of the names that it reads as variables."""
    code = "".join(re.findall(r"\{[{%].*?[%}]\}", template, re.DOTALL))
    bare = re.sub(r"""(["'])(?:\\.|(?!\1).)*\1""", "''", code)
    return (name for name in names if re.search(rf"(?<![\w.]){name}(?!\w)", bare))
