"""Render conversations with a chat template, as Hugging Face and llama.cpp do.

A template is a stranger's program, so it runs in a process of its own that can be stopped
(`tools/rendering.py`): every render of every stage and of the proof is bounded in time and memory.
`strftime_now` is pinned, so nothing in a prompt depends on the day.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from threading import Lock
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.common.foreign import shown
from pipeline.common.values import Conversation
from pipeline.tools.children import allowed, module

PINNED_DAY = "26 Jul 2024"  # the day that Llama 3's own template falls back to
SECONDS = 5.0  # of computing, for one conversation; a long one takes a tenth of a second
_BOUNDS = {
    "time": "computes for more than {seconds:g} seconds",
    "memory": "takes more than a gigabyte of memory",
    "text": "writes more than 32 million characters",
    "end": "breaks down what renders it",
}
_ANOTHER = "It could not be served either: take another base, or mend its chat template."
_OTHERWISE = "Write the conversation as the template asks, or take a base whose template takes it."


def render_text(
    template: str,
    messages: Conversation,
    *,
    generate: bool,
    bos: str = "",
    eos: str = "",
    day: datetime | None = None,
    **more: str | bool,
) -> str:
    """The prompt text of a conversation; with `generate` it ends where an answer starts.

    Args:
        day: what `strftime_now` tells; by default one day for ever.
        more: further names that the template may read, as a server may set them.

    Raises:
        BadInput: the template refuses the conversation, is broken, or does not come to an end.
    """
    text, refusal = attempt(
        template, messages, generate=generate, bos=bos, eos=eos, day=day, **more
    )
    if refusal:
        raise BadInput(f"the chat template refuses this conversation: {refusal}", _OTHERWISE)
    return text


def attempt(
    template: str,
    messages: Conversation,
    *,
    generate: bool,
    bos: str = "",
    eos: str = "",
    day: datetime | None = None,
    **more: str | bool,
) -> tuple[str, str]:
    """The text as `render_text` gives it, or '' and why the template refuses the conversation.

    Raises:
        BadInput: the template is broken or does not come to an end, whatever the conversation.
    """
    names = {"messages": messages, "add_generation_prompt": generate}
    job: dict[str, Any] = {"names": {**names, "bos_token": bos, "eos_token": eos, **more}}
    job |= {"today": PINNED_DAY, "day": day.isoformat() if day else None, "seconds": SECONDS}
    answer = _RENDERER.ask(template, job)
    if bound := answer.get("bound"):
        raise BadInput(f"the chat template {_BOUNDS[bound].format(seconds=SECONDS)}", _ANOTHER)
    if broken := answer.get("broken"):
        raise BadInput(
            f"the chat template is no Jinja: {shown(broken, 200)}",
            "Get the base again, or mend its chat template.",
        )
    return answer.get("text", ""), shown(answer.get("refused", ""), 300)


Beginnings = tuple[Conversation, Sequence[tuple[int, bool]]]
"""A conversation, and which beginnings of it are asked for: how many messages, and `generate`."""
Texts = list[str | BadInput]
"""What they are rendered to; an error stands in the place of its text."""


def render_texts(
    template: str, asked: Sequence[Beginnings], *, bos: str = "", eos: str = ""
) -> list[Texts]:
    """As `render_text`, of many conversations in one go.

    Returns: of each conversation the texts of what is asked of it.
    """
    job: dict[str, Any] = {"names": {"bos_token": bos, "eos_token": eos}, "each": asked}
    job |= {"today": PINNED_DAY, "day": None, "seconds": SECONDS}
    found: list[Texts] | None = _RENDERER.ask(template, job).get("each")
    if found and all(None not in texts for texts in found):
        return found

    def alone(messages: Conversation, generate: bool) -> str | BadInput:
        try:
            return render_text(template, messages, generate=generate, bos=bos, eos=eos)
        except BadInput as error:
            return error

    # refused, or one of them was stopped: asked for alone, each gets its own error
    known: list[Any] = found or [[None] * len(wanted) for _, wanted in asked]
    return [
        [
            alone(messages[:count], generate) if text is None else text
            for (count, generate), text in zip(wanted, texts, strict=True)
        ]
        for (messages, wanted), texts in zip(asked, known, strict=True)
    ]


class _Renderer:
    """The child that renders, started when it is needed and again where it was stopped."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._known = ""  # the template that it has
        self._owner = 0

    def ask(self, template: str, job: dict[str, Any]) -> dict[str, Any]:
        """Its answer; {"bound"} where it was stopped, or ended by itself, on this job."""
        with self._lock:
            child = self._running()
            if template != self._known:
                job = {**job, "template": template}
            self._known = template
            assert child.stdin and child.stdout  # as it was started
            try:
                child.stdin.write(json.dumps(job).encode() + b"\n")
                child.stdin.flush()
                line = child.stdout.readline()
            except BrokenPipeError:
                line = b""
            if line.endswith(b"\n"):
                answer: dict[str, Any] = json.loads(line)
                return answer
            return {"bound": "time" if self._ended() == -signal.SIGPROF else "end"}

    def _running(self) -> subprocess.Popen[bytes]:
        """The child of this process; one that somebody stopped meanwhile is no template's fault."""
        if self._child and self._owner == os.getpid() and self._child.poll() is None:
            return self._child
        if self._child and self._owner == os.getpid():
            self._ended()
        # a stranger's program is told nothing; it ends when its stdin does, so with us
        self._child = subprocess.Popen(
            module("pipeline.tools.rendering"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=allowed(("LD_LIBRARY_PATH",)),
        )
        self._known, self._owner = "", os.getpid()
        return self._child

    def _ended(self) -> int:
        """Wait for the child's end and return how it ended."""
        child, self._child = self._child, None
        assert child and child.stdin and child.stdout
        child.stdout.close()
        with suppress(BrokenPipeError):
            child.stdin.close()
        return child.wait()

    def end(self) -> None:
        """Its stdin ends, and so does it."""
        if self._child and self._owner == os.getpid():
            self._ended()


_RENDERER = _Renderer()
atexit.register(_RENDERER.end)
