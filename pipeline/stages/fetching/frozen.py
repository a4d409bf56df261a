"""The frozen chat template: the base's own Jinja, the same words on every day and for every server.

Six things are put in front of it or replaced in it, and nothing else:
- a comment that renders to nothing. Ollama compares a template with those it knows and takes the
  nearest below 100 edits instead of ours; 150 characters more and it runs this very text.
- the day: llama.cpp passes today's `date_string` and `datetime` to every template (common/chat.cpp,
  common_chat_extra_context) and offers `strftime_now`; all three become constants.
- a system message where the base refuses it (Gemma 2): folded into the first user turn as llama.cpp
  does (common/chat.cpp, system_message_not_supported), so that training and serving agree.
- thinking: off for plain answers and on for rows with thoughts, whatever a server asks for
  (stages/fetching/thinking.py).
- former thoughts: llama-server asks every template to keep them (common/jinja/caps.cpp,
  caps_apply_preserve_reasoning); where that changes a word, it is as if nobody had asked.
- `{% generation %}`, which trainers mark answers with: `{% if true %}`, which every server knows.

Each line in front is `{# … #}` or `{% … %}` and a line break, which Jinja drops after a block
(trim_blocks); the `-` forms would eat blanks that the template starts with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from pipeline.bases.asked import ANSWERED, QUESTION, Asked
from pipeline.common.errors import BadInput
from pipeline.common.foreign import shown
from pipeline.common.values import Conversation, Message
from pipeline.stages.fetching import thinking as thoughts
from pipeline.tools.jinja import PINNED_DAY, attempt, render_text

COMMENT = (
    "{# The base's own chat template, frozen when the base was fetched: the text that the model "
    "was trained on is rendered by this template, and so is the text that it is served. "
    "Nothing in it depends on the day, or on where the base lay. #}\n"
)
PINNED = datetime.strptime(PINNED_DAY, "%d %b %Y")
ANOTHER_DAY = datetime(1999, 9, 9)
NAMES_OF_THE_DAY = {"date_string": "%d %b %Y", "datetime": "%b %d %Y"}  # with llama.cpp's formats
FOLD = (
    "{% if messages | length > 1 and messages[0]['role'] == 'system' %}"
    "{% set messages = [{'role': messages[1]['role'], 'content': "
    "messages[0]['content'] + '\\n' + messages[1]['content']}] + messages[2:] %}"
    "{% endif %}\n"
)
FORMER = ("preserve_thinking", "clear_thinking", "truncate_history_thinking", "drop_thinking")
_MARKS = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")
SYSTEM: Message = {"role": "system", "content": "Answer like a lighthouse keeper."}
TALKS: tuple[Conversation, ...] = (
    QUESTION,
    [SYSTEM, *QUESTION],
    [*ANSWERED, {"role": "user", "content": '  And "the light"? 🗼\nTell me.\n'}],
    [SYSTEM, *ANSWERED, *ANSWERED],
)


def freeze(
    template: str,
    name: str,
    *,
    bos: str = "",
    eos: str = "",
    thinking: bool = False,
) -> str:
    """The template that renders the training text and serves the model.

    Args:
        template: the base's own Jinja.
        name: whose it is, for messages.
        bos: what `bos_token` is in it.
        eos: what `eos_token` is in it.
        thinking: answers begin with thoughts.

    Raises:
        BadInput: it cannot be frozen: the reason.
    """
    frozen = _pinned(_MARKS.sub(_as_if, template))
    if not _shows_system(frozen, bos, eos):
        frozen = FOLD + frozen

    def ask(template: str, **names: bool) -> Asked:
        return Asked.by(lambda talk, generate: _rendered(template, talk, bos, eos, more=names))

    settled = thoughts.settle(frozen, name, ask, thinking)
    frozen = COMMENT + _unasked(settled.template, bos, eos)
    _check(template, frozen, bos, eos, settled.names, settled.tail)
    _check_answer(ask(frozen), name)
    return frozen


def _as_if(mark: re.Match[str]) -> str:
    """A block that renders what is in it, with the same blanks taken away."""
    left, end, right = mark.groups()
    return f"{{%{left} endif {right}%}}" if end else f"{{%{left} if true {right}%}}"


def _pinned(template: str) -> str:
    """The template with every way to learn the day made constant."""
    text = re.sub(
        r"""strftime_now\(\s*(["'])([^"'\\]*)\1\s*\)""",
        lambda call: f"{call[1]}{PINNED.strftime(call[2])}{call[1]}",
        template,
    )
    for name, form in NAMES_OF_THE_DAY.items():
        if re.search(rf"\b{name}\b", text):
            text = f'{{% set {name} = "{PINNED.strftime(form)}" %}}\n{text}'
    return text


def _unasked(template: str, bos: str, eos: str) -> str:
    """The template with the names of FORMER as it takes them where no server sets them."""

    def texts(more: Mapping[str, bool]) -> list[str]:
        return [_rendered(template, talk, bos, eos, more=more) for talk in TALKS]

    for name in FORMER:
        if re.search(rf"\b{name}\b", template):
            alike = [value for value in (False, True) if texts({name: value}) == texts({})]
            if len(alike) == 1:
                template = f"{{% set {name} = {str(alike[0]).lower()} %}}\n{template}"
    return template


def _shows_system(template: str, bos: str, eos: str) -> bool:
    asked = [SYSTEM, *QUESTION]
    text, _ = attempt(template, asked, generate=True, bos=bos, eos=eos, day=PINNED, **_day(PINNED))
    return SYSTEM["content"] in text


def _day(day: datetime) -> dict[str, str]:
    """That day by every name by which a server tells it."""
    return {name: day.strftime(form) for name, form in NAMES_OF_THE_DAY.items()}


def _rendered(
    template: str,
    messages: Conversation,
    bos: str,
    eos: str,
    day: datetime = PINNED,
    more: Mapping[str, str | bool] = MappingProxyType({}),
) -> str:
    """As a server renders it on that day."""
    generate = messages[-1]["role"] == "user"
    names = {**_day(day), **more}
    return render_text(template, messages, generate=generate, bos=bos, eos=eos, day=day, **names)


def _check(
    template: str, frozen: str, bos: str, eos: str, names: dict[str, bool], tail: str
) -> None:
    """The frozen template says what the base's own does, on every day.

    Args:
        names: what the frozen one sets by itself.
        tail: what it adds to a prompt.
    """
    for messages in TALKS:
        generate = messages[-1]["role"] == "user"
        text = _rendered(frozen, messages, bos, eos)
        for message in messages if generate else ():
            if message["content"].strip() not in text:
                raise BadInput(
                    f"the base's chat template drops what the {message['role']} says",
                    "Take a base whose template renders every turn.",
                )
        if text != _rendered(frozen, messages, bos, eos, ANOTHER_DAY):
            raise BadInput(
                "the base's chat template depends on the day in a way that cannot be pinned",
                "Take another base.",
            )
        folded = FOLD in frozen and messages[0]["role"] == "system"
        own = "" if folded else _rendered(template, messages, bos, eos, more=names)
        if not folded and text != own + (tail if generate else ""):
            raise BadInput(
                "the base's chat template renders differently once it is frozen",
                "Take another base.",
            )


def _check_answer(asked: Asked, name: str) -> None:
    """An answer is asked for as the template writes answers: the model knows where it stands."""
    if not asked.found:
        raise BadInput(
            "the base's chat template drops what the assistant says",
            "Take a base whose template renders every turn.",
        )
    if asked.lead is None:
        raise BadInput(
            f"the chat template of the base {name} begins every answer with words of its own,"
            f" {shown(asked.asks[-60:])}, which are not in the answers of a conversation",
            "Plain answers cannot be trained behind them: take a base that answers at once"
            " (-Instruct).",
        )
