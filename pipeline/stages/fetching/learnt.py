"""A chat template learnt from the server: of a base that Ollama renders by other means than Jinja.

Its GGUF has no Jinja; what it was served with is a template in Go's language, or Ollama's own code.
Both answer what prompt they make of a conversation. Conversations whose texts are unique marks show
the constants between them; these go into one fixed shape (skeleton_template.py), which is taken
only if it renders all further conversations as the server does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise

from pipeline.common.errors import BadInput
from pipeline.common.values import Conversation, Message
from pipeline.stages.fetching.skeleton_template import Border, Skeleton
from pipeline.tools.jinja import render_text

Oracle = Callable[[Conversation], str]
"""The prompt that a server makes of a conversation that ends with a question."""
LETTERS = {"s": "system", "u": "user", "a": "assistant"}
PROBES = ("u", "uau", "uauau", "su", "suau")
"""Who speaks: each border of a usual conversation is seen, most of them more than once."""
RARE = ("au", "sau", "uu", "uaau")
"""Each shows one border more. A template may do otherwise there: it then takes no such row."""
_DAY = re.compile(r"currentDate|yesterdayDate")
_TEXTS = (
    "Is it open?",
    "x",
    "naïve Ωμέγα 東京 עברית 🦊👩\u200d🔧",
    "1. one\n2. two\n\n```\ncode {{ user }} {% if x %} \\\\n\n```",
    'She said "it\'s" <b>&amp;</b>\r\n\tso',
    "word " * 400 + "end",
    "  blanks around \n\n",
    "\n\nlines around\n",
)
_MORE = ("suuau", "saauu", "uauauauau", "suauauauau", "uauuau", "suaauau", "auau", "suu", "uuu")
_ORDERS = (*PROBES, *RARE, *_MORE)


def learn(oracle: Oracle, name: str, *, source: str = "") -> str:
    """The template as Jinja.

    Args:
        name: the base's, for messages.
        source: the template in Go's language, if there is one.

    Raises:
        BadInput: it is not of the shape that can be learnt, or depends on the day: what shows it.
    """
    if found := _DAY.search(source):
        raise _refused(name, f"it writes the day ({found[0]})")
    skeleton = Skeleton(*_constants(oracle, name))
    skeleton = Skeleton(
        skeleton.between, skeleton.asks, _trims(oracle, skeleton), _empty_system(oracle)
    )
    if not skeleton.end.strip():
        raise _refused(name, "it puts nothing behind an answer")
    jinja = skeleton.jinja
    for talk in talks():
        if skeleton.between.keys() >= set(_borders(talk)[:-1]):
            check(oracle(talk), jinja, talk, name)
    return jinja


def check(theirs: str, jinja: str, talk: Conversation, name: str) -> None:
    """Compare a prompt with the server's.

    Raises:
        BadInput: the first difference.
    """
    ours = render_text(jinja, talk, generate=True)
    if ours == theirs:
        return
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    at = min(len(ours), len(theirs)) if at is None else at
    raise _refused(
        name,
        f"after {theirs[max(0, at - 40) : at]!r} Ollama writes {theirs[at : at + 40]!r}, and what"
        f" was learnt of it {ours[at : at + 40]!r} ({len(talk)} turns)",
    )


def talks() -> Iterator[Conversation]:
    """The conversations that decide."""
    for shift in range(len(_TEXTS)):
        for number, order in enumerate(_ORDERS):
            if shift == 0 or number % len(_TEXTS) == shift:
                yield [
                    _turn(letter, _TEXTS[(shift + number + i) % len(_TEXTS)])
                    for i, letter in enumerate(order)
                ]
    yield [_turn("s", ""), _turn("u", _TEXTS[0])]


def _constants(oracle: Oracle, name: str) -> tuple[dict[Border, str], str]:
    """What stands at each border, and what asks for an answer."""
    known: dict[Border, str] = {}
    for order in PROBES:
        for border, text in _seen(oracle, order, name):
            if known.setdefault(border, text) != text:
                raise _refused(
                    name,
                    f"between {border[0]} and {border[1]} it writes {known[border][:60]!r}, and in"
                    f" a conversation of {_said(order)} {text[:60]!r}",
                )
    for order in RARE:
        with suppress(BadInput):
            known = dict(_seen(oracle, order, name)) | known
    return known, known.pop(("user", "answer"))


def _seen(oracle: Oracle, order: str, name: str) -> list[tuple[Border, str]]:
    """The borders of one conversation, and the text at each."""
    talk = [_turn(letter, f"MARK{i}{letter}KRAM") for i, letter in enumerate(order)]
    pieces, rest = [], oracle(talk)
    for turn in talk:
        before, mark, rest = rest.partition(turn["content"])
        if not mark or turn["content"] in rest:
            how = "writes it twice" if mark else "drops it, or moves it"
            raise _refused(name, f"of {_said(order)} the template changes a turn: {how}")
        pieces.append(before)
    return list(zip(_borders(talk), [*pieces, rest], strict=True))


def _borders(talk: Conversation) -> list[Border]:
    return list(pairwise(["start", *(turn["role"] for turn in talk), "answer"]))


def _trims(oracle: Oracle, skeleton: Skeleton) -> frozenset[str]:
    """Roles whose texts lose the blanks around them."""
    talk = [_turn(letter, f" \n MARK{i} \n ") for i, letter in enumerate("suau")]
    text = oracle(talk)
    return frozenset(turn["role"] for turn in talk[:3] if turn["content"] not in text)


def _empty_system(oracle: Oracle) -> bool:
    return oracle([_turn("s", ""), _turn("u", "x")]) != oracle([_turn("u", "x")])


def _turn(letter: str, text: str) -> Message:
    return {"role": LETTERS[letter], "content": text}


def _said(order: str) -> str:
    return ", ".join(LETTERS[letter] for letter in order)


def _refused(name: str, why: str) -> BadInput:
    return BadInput(
        f"the chat template that Ollama serves {name} with cannot be learnt: {why}",
        "Take a base with a chat template in its GGUF, or say one of ours: --template plain.",
    )
