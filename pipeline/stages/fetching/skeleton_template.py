"""The one shape that a learnt template has: constants between turns, by who spoke before.

What stands between two turns depends on their two roles alone. That holds for every template that
writes turns one after the other; one that looks further (a system message in the last question, the
number of turns) is found out by the probes (learnt.py), and refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Border = tuple[str, str]
"""Who spoke before (start, system, user, assistant), and who speaks now."""
NOW = ("user", "assistant")


@dataclass(frozen=True)
class Skeleton:
    """What was learnt."""

    between: dict[Border, str]
    """The text at each border that is known; a conversation with another one is refused."""
    asks: str
    """What asks for an answer, behind a question."""
    trims: frozenset[str] = field(default_factory=frozenset)
    """Roles whose texts lose the blanks around them."""
    empty_system: bool = False
    """An empty system message is written as any other; else it is as if there were none."""

    @property
    def end(self) -> str:
        """What begins with the end of an answer, as far as that can be told.

        What stands in front of the next question, and not in front of a first one; all of it, where
        a first one follows another turn that the template writes by itself.
        """
        after, first = self.between["assistant", "user"], self.between["start", "user"]
        same = 0
        while same < min(len(after), len(first)) and after[-1 - same] == first[-1 - same]:
            same += 1
        return after[: len(after) - same] or after

    @property
    def jinja(self) -> str:
        """As a chat template."""
        test = "" if self.empty_system else " and messages[0]['content'] | trim"
        system = self._text("system", "messages[0]['content']")
        lines = [
            "{%- set ns = namespace(last='start') -%}",
            "{%- if messages and messages[0]['role'] == 'system' -%}",
            f"{{%- if true{test} -%}}{_write(self.between['start', 'system'])}{{{{- {system} -}}}}"
            "{%- set ns.last = 'system' -%}{%- endif -%}",
            "{%- endif -%}",
            "{%- for message in messages -%}",
            *(self._turn(role) for role in NOW),
            "{%- endfor -%}",
            f"{{%- if add_generation_prompt -%}}{_write(self.asks)}"
            f"{{%- elif ns.last == 'assistant' -%}}{_write(self.end)}{{%- endif -%}}",
        ]
        return "\n".join(lines)

    def _turn(self, role: str) -> str:
        cases = [
            f"if ns.last == '{before}' -%}}{_write(text)}{{%- "
            for (before, now), text in sorted(self.between.items())
            if now == role
        ]
        refusal = f"{{{{- raise_exception('the {role} may not speak here') -}}}}"
        border = f"{{%- {'el'.join(cases)}else -%}}{refusal}{{%- endif -%}}"
        content = self._text(role, "message['content']")
        return (
            f"{{%- if message['role'] == '{role}' -%}}{border}{{{{- {content} -}}}}"
            f"{{%- set ns.last = '{role}' -%}}{{%- endif -%}}"
        )

    def _text(self, role: str, content: str) -> str:
        return f"{content} | trim" if role in self.trims else content


def _write(text: str) -> str:
    if not text:
        return ""
    escapes = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "{{- '" + "".join(escapes.get(letter, letter) for letter in text) + "' -}}"
