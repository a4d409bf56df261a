"""The frozen chat template: the base's own Jinja, the same words on every day and for every server.

Five things are put in front of it or replaced in it, and nothing else:
- a comment that renders to nothing. Ollama compares a template with those it knows and takes the
  nearest below 100 edits instead of ours; 150 characters more and it runs this very text.
- the day: llama.cpp passes today's `date_string` and `datetime` to every template (common/chat.cpp,
  common_chat_extra_context) and offers `strftime_now`; all three become constants.
- a system message where the base refuses it (Gemma 2): folded into the first user turn as llama.cpp
  does (common/chat.cpp, system_message_not_supported), so that training and serving agree.
- thinking: switched off where a server would ask for it unasked (it passes `enable_thinking` true
  to every template that can), and where the template would write empty thoughts in front of each
  answer (Qwen 3): they would be learned, and shown to who asks by /api/generate.
- `{% generation %}`, which trainers mark answers with: `{% if true %}`, which every server knows.

Each line in front is `{# … #}` or `{% … %}` and a line break, which Jinja drops after a block
(trim_blocks); the `-` forms would eat blanks that the template starts with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from pipeline.bases.own_template import SWITCH
from pipeline.common.errors import BadInput
from pipeline.common.values import Conversation, Message
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
PLAIN = f"{{% set {SWITCH} = false %}}\n"
_MARKS = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")
SYSTEM: Message = {"role": "system", "content": "Answer like a lighthouse keeper."}
ASKED: Conversation = [{"role": "user", "content": "How tall is the tower?"}]
ANSWERED: Conversation = [*ASKED, {"role": "assistant", "content": "Forty metres of stairs."}]
TALKS: tuple[Conversation, ...] = (
    ASKED,
    [SYSTEM, *ASKED],
    [*ANSWERED, {"role": "user", "content": '  And "the light"? 🗼\nTell me.\n'}],
    [SYSTEM, *ANSWERED, *ANSWERED],
)


def freeze(
    template: str, name: str, *, bos: str = "", eos: str = "", thinking: bool = False
) -> str:
    """The template that renders the training text and serves the model.

    Args:
        template: the base's own Jinja.
        name: whose it is, for messages.
        bos: what `bos_token` is in it.
        eos: what `eos_token` is in it.
        thinking: leave empty thoughts in front of answers, as they are in the base's own.

    Raises:
        BadInput: it cannot be frozen: the reason.
    """
    frozen = _pinned(_MARKS.sub(_as_if, template))
    if not _shows_system(frozen, bos, eos):
        frozen = FOLD + frozen
    thinks: dict[str, bool] = {}
    asked = _rendered(frozen, ASKED, bos, eos)
    differs = asked != _rendered(frozen, ASKED, bos, eos, more={SWITCH: True})
    if differs or (not thinking and _thoughts(frozen, bos, eos) and _quiet(frozen, bos, eos)):
        frozen, thinks = PLAIN + frozen, {SWITCH: False}
    frozen = COMMENT + frozen
    _check(template, frozen, bos, eos, thinks)
    _check_answer(frozen, name, bos, eos)
    return frozen


def _thoughts(template: str, bos: str, eos: str) -> str:
    """What it writes between the prompt and an answer's first word."""
    prompt, whole = (_rendered(template, talk, bos, eos) for talk in (ASKED, ANSWERED))
    if not whole.startswith(prompt):
        return ""
    return whole.removeprefix(prompt).partition(ANSWERED[-1]["content"])[0].strip()


def _quiet(template: str, bos: str, eos: str) -> bool:
    """True if it writes none when it is told so."""
    return not _thoughts(PLAIN + template, bos, eos)


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


def _shows_system(template: str, bos: str, eos: str) -> bool:
    asked = [SYSTEM, *ASKED]
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


def _check(template: str, frozen: str, bos: str, eos: str, thinks: dict[str, bool]) -> None:
    """The frozen template says what the base's own does, on every day."""
    for messages in TALKS:
        text = _rendered(frozen, messages, bos, eos)
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
        if not folded and text != _rendered(template, messages, bos, eos, more=thinks):
            raise BadInput(
                "the base's chat template renders differently once it is frozen",
                "Take another base.",
            )


def _check_answer(frozen: str, name: str, bos: str, eos: str) -> None:
    """An answer stands where it is generated: what is trained is what follows the prompt."""
    prompt = _rendered(frozen, ASKED, bos, eos)
    if _rendered(frozen, ANSWERED, bos, eos).startswith(prompt):
        return
    asks = prompt.rpartition(ASKED[0]["content"])[2]
    what = (
        f"the chat template of the base {name} asks for an answer with {asks[-60:]!r}, and writes"
    )
    what += " the answers of a conversation without it"
    if "<think>" in asks:
        what = f"the base {name} always thinks: its chat template opens <think> before every answer"
    raise BadInput(
        what,
        "Plain answers cannot be trained there: take a base that answers at once (-Instruct).",
    )
