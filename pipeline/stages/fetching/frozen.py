"""The frozen chat template: the base's own Jinja, the same words on every day and for every server.

Three things are put in front of it or replaced in it, and nothing else:
- a comment that renders to nothing. Ollama compares a template with those it knows and takes the
  nearest below 100 edits instead of ours; 150 characters more and it runs this very text.
- the day: llama.cpp passes today's `date_string` and `datetime` to every template (common/chat.cpp,
  common_chat_extra_context) and offers `strftime_now`; all three become constants.
- a system message where the base refuses it (Gemma 2): folded into the first user turn as llama.cpp
  does (common/chat.cpp, system_message_not_supported), so that training and serving agree.

Each line in front is `{# … #}` or `{% … %}` and a line break, which Jinja drops after a block
(trim_blocks); the `-` forms would eat blanks that the template starts with.
"""

from __future__ import annotations

import re
from datetime import datetime

from pipeline.errors import BadInput
from pipeline.template import PINNED_DAY, render_text
from pipeline.values import Conversation, Message

MENTIONED = ("tools", "tool_call", "<think>", "</think>", "#}")
"""Never in the comment: Ollama finds what a model can do by these words; the last one ends it."""
COMMENT = (
    "{{# The chat template of {name}, frozen when the base was fetched: the text that the model "
    "was trained on is rendered by this template, and so is the text that it is served. "
    "Nothing in it depends on the day. #}}\n"
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
SYSTEM: Message = {"role": "system", "content": "Answer like a lighthouse keeper."}
ASKED: Conversation = [{"role": "user", "content": "How tall is the tower?"}]
ANSWERED: Conversation = [*ASKED, {"role": "assistant", "content": "Forty metres of stairs."}]
TALKS: tuple[Conversation, ...] = (
    ASKED,
    [SYSTEM, *ASKED],
    [*ANSWERED, {"role": "user", "content": '  And "the light"? 🗼\nTell me.\n'}],
    [SYSTEM, *ANSWERED, *ANSWERED],
)


def freeze(template: str, name: str, *, bos: str = "", eos: str = "") -> str:
    """The template that renders the training text and serves the model.

    Args:
        template: the base's own Jinja.
        name: whose it is.
        bos: what `bos_token` is in it.
        eos: what `eos_token` is in it.

    Raises:
        BadInput: it cannot be frozen: the reason.
    """
    safe = re.fullmatch(r"[\w .:+-]+", name) and not any(word in name for word in MENTIONED)
    frozen = _pinned(template)
    if not _shows_system(frozen, bos, eos):
        frozen = FOLD + frozen
    frozen = COMMENT.format(name=name if safe else "the base") + frozen
    _check(template, frozen, bos, eos)
    return frozen


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


def _shows_system(template: str, bos: str, eos: str) -> bool:
    try:
        return SYSTEM["content"] in _rendered(template, [SYSTEM, *ASKED], bos, eos, PINNED)
    except BadInput:
        return False


def _rendered(template: str, messages: Conversation, bos: str, eos: str, day: datetime) -> str:
    """As on that day, in a server that tells the day by every name it has."""
    names = {name: day.strftime(form) for name, form in NAMES_OF_THE_DAY.items()}
    generate = messages[-1]["role"] == "user"
    more: dict[str, object] = {"strftime_now": day.strftime, **names}
    return render_text(template, messages, generate=generate, bos=bos, eos=eos, **more)


def _check(template: str, frozen: str, bos: str, eos: str) -> None:
    for messages in TALKS:
        text = _rendered(frozen, messages, bos, eos, PINNED)
        for message in messages:
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
        if not folded and text != _rendered(template, messages, bos, eos, PINNED):
            raise BadInput(
                "the base's chat template renders differently once it is frozen",
                "Take another base.",
            )
