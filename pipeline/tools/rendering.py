"""The process that renders chat templates: `python -P -m pipeline.tools.rendering`, a job a line.

A chat template is a stranger's program. Jinja's sandbox keeps it from files and from Python's
insides, not from endless loops or from 'x' * 10**10. Here the kernel does: the process has little
memory, and a timer of computing time kills it however deep in C it is. It answers as long as it
lives; `template.py` starts another one.

The environment is the one of transformers' `apply_chat_template` (utils/chat_template_utils.py):
sandboxed, trim_blocks, lstrip_blocks, loop controls, `{% generation %}`, `raise_exception`.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 1 << 30  # bytes of the whole process; Python and Jinja take a twentieth
TEXT = 32 << 20  # characters: many times what any model reads


def main() -> None:
    """Answer each line of stdin with a line: {"text"}, {"refused"}, {"broken"} or {"bound"}.

    A job {"each": [[messages, [[count, generate], …]], …]} gets {"each": [[text or null, …], …]}.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's business; stdin ends with it
    template = ""
    for line in sys.stdin.buffer:
        job = json.loads(line)
        template = job.pop("template", template)
        sys.stdout.write(json.dumps(_answers(template, job)) + "\n")
        sys.stdout.flush()


def _answers(template: str, job: dict[str, Any]) -> dict[str, Any]:
    seconds, names = job.pop("seconds"), _names(job)
    if "each" not in job:
        return _answer(template, names, seconds)
    found = []
    for messages, wanted in job["each"]:
        texts = []
        for count, generate in wanted:
            names |= {"messages": messages[:count], "add_generation_prompt": generate}
            texts.append(_answer(template, names, seconds).get("text"))
        found.append(texts)
    return {"each": found}


def _answer(template: str, names: dict[str, Any], seconds: float) -> dict[str, str]:
    signal.setitimer(signal.ITIMER_PROF, seconds)  # unhandled, SIGPROF kills
    try:
        text = _compiled(template).render(**names)
        return {"text": text} if len(text) <= TEXT else {"bound": "text"}
    except MemoryError:
        return {"bound": "memory"}
    except TemplateSyntaxError as error:
        return {"broken": f"{error.message} in line {error.lineno}"[:1000]}
    except Exception as error:  # whatever its expressions raise: it may add a number to a text
        return {"refused": (str(error) or type(error).__name__)[:1000]}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _names(job: dict[str, Any]) -> dict[str, Any]:
    """What the template may read; the function for the day tells that day in every format."""
    names: dict[str, Any] = job["names"]
    moment, told = job.get("day"), job["today"]
    tells = datetime.fromisoformat(moment).strftime if moment else lambda _format: told
    return {**names, "strftime_now": tells}


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    return environment.from_string(template)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: marks what is learned for trainers, renders as is."""

    tags = {"generation"}  # noqa: RUF012 (as Jinja declares it)

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_as_it_is"), [], [], body).set_lineno(line)

    def _as_it_is(self, caller: Any) -> Any:
        return caller()


def _raise(message: str) -> None:
    raise TemplateError(message)


def _tojson(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


if __name__ == "__main__":
    main()
