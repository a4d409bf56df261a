"""A Modelfile: one value, read from the user's text and written for people and for Ollama.

Models are registered through Ollama's HTTP interface, which carries every character; the text is
for people, and for `ollama create -f`. Its grammar is in grammar.py, PARAMETERs in parameters.py.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pipeline.common.errors import BadInput
from pipeline.spec.modelfile_syntax import close, commands, lossy, quoted
from pipeline.spec.parameters import Value, context_length, printed, typed

__all__ = ["Modelfile", "context_length", "lossy", "parse", "read", "render", "starter"]

TAKEN = ("FROM", "SYSTEM", "PARAMETER", "LICENSE")
REFUSED = {
    "TEMPLATE": "the base's own template trains and serves, so that both see the same prompt",
    "ADAPTER": "the adapter is what the training makes (one of yours: FROM merged:BASE+ADAPTER)",
    "DRAFT": "a second model that guesses ahead would not be trained along",
    "RENDERER": "it would serve another prompt than the one that was trained",
    "PARSER": "it would serve another prompt than the one that was trained",
    "MESSAGE": "it would stand before every conversation: say it in SYSTEM or in the data",
    "REQUIRES": "what an Ollama can do is tried out, not read from its version",
}


class Modelfile(BaseModel):
    """What a Modelfile says; two are equal when they say the same, wherever it stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    """FROM."""
    system: str = ""
    parameters: dict[str, Value] = {}
    """As Ollama's HTTP interface takes them; `stop` is a list."""
    license: str = ""
    source: str = Field(default="Modelfile", exclude=True, repr=False)
    """The file it was read from."""
    lines: dict[str, int] = Field(default={}, exclude=True, repr=False)
    """Where the commands and parameters stand: {"FROM": 2, "num_ctx": 4}."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Modelfile) and self.model_dump() == other.model_dump()

    def at(self, name: str) -> str:
        """`file:line` of a command or parameter, for errors."""
        return f"{self.source}:{self.lines[name]}" if name in self.lines else self.source


def read(path: Path) -> Modelfile:
    """The Modelfile in a file.

    Raises:
        BadInput: it cannot be read, is not UTF-8, or `parse` refuses it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}", "Check the name of the Modelfile.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}:{line}: this is not UTF-8", "Save the file as UTF-8.") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Modelfile:
    """What the text of a Modelfile says.

    Args:
        source: the file's name, for errors.

    Raises:
        BadInput: with file and line: an unknown or refused command or parameter, a value of the
            wrong type, an open quote, no FROM or two.
    """
    said: dict[str, str] = {}
    parameters: dict[str, Value] = {}
    lines: dict[str, int] = {}
    for number, word, parameter, value in commands(text, source):
        where = f"{source}:{number}"
        name = _command(word, where)
        if name == "PARAMETER":
            name, new, old = parameter, typed(parameter, value, where), parameters.get(parameter)
            repeated = isinstance(new, list) and isinstance(old, list)
            parameters[name] = [*old, *new] if repeated else new  # type: ignore[misc]
        elif name == "FROM" and name in said:
            raise BadInput(f"{where}: a second FROM", "Keep one: a specialist has one base.")
        elif name == "LICENSE" and name in said:
            said[name] += f"\n\n{value}"
        else:
            said[name] = value
        lines.setdefault(name, number)
    if not said.get("FROM"):
        raise BadInput(f"{source}: no FROM line", "Add one: FROM embedded:smollm2-135m-instruct")
    return Modelfile(
        base=said["FROM"],
        system=said.get("SYSTEM", ""),
        parameters=parameters,
        license=said.get("LICENSE", ""),
        source=source,
        lines=lines,
    )


def _command(word: str, where: str) -> str:
    command = word.upper()
    if command in REFUSED:
        raise BadInput(f"{where}: {command} is not taken: {REFUSED[command]}", "Remove the line.")
    if command not in TAKEN:
        raise BadInput(
            f"{where}: no such command: {word[:40]}",
            f'{close(command, TAKEN)} A text of several lines needs quotes: SYSTEM """…""".',
        )
    return command


def render(modelfile: Modelfile) -> str:
    """The text of a Modelfile, as `ollama create -f` reads it; `parse` brings the value back."""
    rows = [f"FROM {quoted(modelfile.base)}"]
    rows += [f"SYSTEM {quoted(modelfile.system)}"] if modelfile.system else []
    for name, value in modelfile.parameters.items():
        rows += [f"PARAMETER {name} {each}" for each in printed(value)]
    rows += [f"LICENSE {quoted(modelfile.license)}"] if modelfile.license else []
    return "\n".join(rows) + "\n"


def starter(name: str, base: str) -> str:
    """The text that `specialist init` writes for a new specialist."""
    return f"""\
# {name}: a specialist, in Ollama's own language.
# Make it:  make specialist DATA=data/{name}.jsonl      Then:  ollama run {name}

# The model that is tuned.
FROM {quoted(base)}

# Who it is. Paid in every row: keep it short. Rows of the data without a system message get it.
SYSTEM \"\"\"You are {name}.\"\"\"

# How it is served; changing this does not train again.
PARAMETER temperature 0.3
"""
