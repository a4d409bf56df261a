"""What the user wants: a Modelfile, a toml beside it, and `--set`, as one frozen value.

Every field has a sentence under it: `specialist init` prints them into the starter toml.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.common import names, places
from pipeline.common.errors import BadInput
from pipeline.spec import modelfile, rules, toml_lines
from pipeline.spec.rules import Rule
from pipeline.spec.table import Table

DEFAULT_BASE = "embedded:smollm2-135m-instruct"
Parameters = dict[str, str | int | float | bool | list[str]]


class DataTable(Table):
    """[data]: which rows are used."""

    skip_long: bool = Field(
        False, description="Leave out rows longer than the base's context instead of refusing them."
    )


class FetchTable(Table):
    """[fetch]: what the base is taken with."""

    template: Literal["plain", "chatml", "llama3", "gemma"] | None = Field(
        None,
        description="A chat template of ours, for a base that has none: plain, or one whose tokens"
        " it has (chatml, llama3, gemma). Your rows then teach it to answer.",
    )


class TuneTable(Table):
    """[tune]: how the adapter is trained; what is left out is chosen for the data and the base."""

    epochs: int | None = Field(None, ge=1, le=100, description="Passes over the data at most.")
    learning_rate: float | None = Field(
        None, gt=0, le=0.1, description="Peak learning rate, for example 5e-4."
    )
    rank: int | None = Field(None, ge=1, le=512, description="Rank of the LoRA factors.")
    alpha: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="The update is scaled by alpha / rank; the rank if left out.",
    )
    batch: int | None = Field(None, ge=1, le=1024, description="Conversations per step.")
    load: Literal["16-bit", "4-bit"] | None = Field(
        None, description="How the base is held in a GPU's memory."
    )
    keep: float = Field(
        1.0,
        ge=0,
        le=10,
        description="How much training holds it to what its base says off your subject; 0: its"
        " voice may run into everything.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Another seed gives another shuffle.")


class PackTable(Table):
    """[pack]: how the finished model is stored."""

    quantization: str = Field(
        "auto",
        description="A type of llama.cpp such as Q8_0 or Q4_K_M, or several with commas (the first"
        " is served); auto chooses by the base's size.",
    )


class EvaluateTable(Table):
    """[evaluate]: what is measured before a version is served, and what it takes to be served."""

    enabled: bool = Field(True, description="Measure a new version before it takes the name.")
    policy: Literal["harm", "strict"] = Field(
        "harm",
        description="harm: what is shown to be worse is not served; strict: nor is what is not"
        " shown to be as good.",
    )
    require_examples: bool = Field(
        False, description="It must not be worse than its base with examples in the prompt, either."
    )
    rules: tuple[Rule, ...] = Field(
        (),
        description="Rules of yours that every answer has to keep, a table for each:"
        " [evaluate.rules.NAME] with contains, lacks, pattern, schema, longest or max_broken.",
    )


TABLES: dict[str, type[Table]] = {
    "data": DataTable,
    "fetch": FetchTable,
    "tune": TuneTable,
    "pack": PackTable,
    "evaluate": EvaluateTable,
}


class Spec(BaseModel):
    """A specialist as the user wants it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    base: str
    """FROM, or --base."""
    beside: Path
    """Folder that a relative FROM is looked up in; no part of any key."""
    system: str
    parameters: Parameters
    license: str
    data: DataTable
    fetch: FetchTable = FetchTable.model_validate({})
    tune: TuneTable
    pack: PackTable
    evaluate: EvaluateTable = EvaluateTable.model_validate({})


def read(
    name: str,
    folder: Path,
    *,
    base: str | None = None,
    sets: tuple[str, ...] = (),
    quantize: str | None = None,
    template: str | None = None,
    skip_long: bool = False,
) -> Spec:
    """The spec of NAME from `folder`/NAME.Modelfile and NAME.toml (both optional) and flags.

    Args:
        base: overrides FROM; a path in it is looked up in the working directory.
        sets: `tune.epochs=3` and the like; they win over the toml.

    Raises:
        BadInput: with file, line or flag, and what is allowed.
    """
    names.check_name(name)
    if not folder.is_dir() and (folder.exists() or folder != places.MODELFILES):
        found = "is a file, not a folder of Modelfiles" if folder.exists() else "does not exist"
        raise BadInput(f"{folder} {found}", "Give the folder of NAME.Modelfile and NAME.toml.")
    for flag, value in (("--base", base), ("--quantize", quantize)):
        if value is not None and not value.strip():
            raise BadInput(f"{flag} is empty", "Give it a value, or leave it out.")
    path = folder / f"{name}.Modelfile"
    written = modelfile.read(path) if path.exists() else None
    wishes = [*_toml(folder / f"{name}.toml"), *map(_set, sets)]
    if quantize:
        wishes.append(Wish("--quantize", "pack", "quantization", quantize))
    if template is not None:
        wishes.append(Wish(f"--template {template}", "fetch", "template", template))
    if skip_long:
        wishes.append(Wish("--skip-long", "data", "skip_long", True))
    chosen = base or (written.base if written else DEFAULT_BASE)
    names.check_differs(name, chosen)
    return Spec(
        name=name,
        base=chosen,
        beside=Path.cwd() if base or not written else folder.absolute(),
        system=written.system if written else "",
        parameters=written.parameters if written else {},
        license=written.license if written else "",
        data=_table("data", wishes, DataTable),
        fetch=_table("fetch", wishes, FetchTable),
        tune=_table("tune", wishes, TuneTable),
        pack=_table("pack", wishes, PackTable),
        evaluate=_table("evaluate", wishes, EvaluateTable),
    )


def evaluate_table(name: str, folder: Path) -> EvaluateTable:
    """What `folder`/NAME.toml says of evaluating; the defaults where there is no such file.

    Raises:
        BadInput: as for `read`.
    """
    found: EvaluateTable = _table("evaluate", _toml(folder / f"{name}.toml"), EvaluateTable)
    return found


def starter() -> str:
    """The text that `specialist init` writes: every key with its sentence, none of them set."""
    lines = ["# How it is made. Every key is optional; what is left out is chosen automatically."]
    for name, table in TABLES.items():
        lines += ["", f"[{name}]"]
        for key, field in table.model_fields.items():
            lines.append(f"# {field.description}")
            lines += [] if key == "rules" else [f"# {key} = {_example(field.default)}"]
    lines += rules.EXAMPLE
    return "\n".join(lines) + "\n"


def _example(default: Any) -> str:
    if default is None:
        return "…"
    return str(default).lower() if isinstance(default, bool) else json.dumps(default)


class Wish(NamedTuple):
    """A key that somebody set."""

    where: str
    """File, line and what stands there, or the flag."""
    table: str
    key: str
    value: Any


def _toml(path: Path) -> list[Wish]:
    """What the toml sets, the names of its tables and keys checked."""
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
        tables = tomllib.loads(text)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}", "Check the name of the file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {error}", "Mend this line of the file.") from error
    wishes = []
    for table, keys in tables.items():
        if table not in TABLES or not isinstance(keys, dict):
            what = "table" if isinstance(keys, dict) else "key"
            raise BadInput(
                f"{path}{toml_lines.line(text, table)}: unknown {what} {table!r}",
                f"Tables are {', '.join(f'[{name}]' for name in TABLES)}.",
            )
        for key, value in keys.items():
            where = f"{path}{toml_lines.line(text, table, key)}"
            _check_key(where, table, key)
            if (table, key) == ("evaluate", "rules"):
                value = rules.read(value, path, text)
            wishes.append(Wish(f"{where}: {table}.{key} = {value!r}", table, key, value))
    return wishes


def _set(text: str) -> Wish:
    """`tune.epochs=3`, read."""
    path, equals, value = text.partition("=")
    table, dot, key = path.strip().partition(".")
    if not equals or not dot:
        raise BadInput(
            f"--set {text}: not of the form table.key=value", "As in: --set tune.epochs=3"
        )
    if table not in TABLES:
        raise BadInput(f"--set {text}: unknown table {table!r}", f"Tables: {', '.join(TABLES)}.")
    _check_key(f"--set {text}", table, key)
    if (table, key) == ("evaluate", "rules"):
        raise BadInput(f"--set {text}: rules stand in the toml", "Write them into NAME.toml.")
    return Wish(f"--set {text}", table, key, value.strip())


def _check_key(where: str, table: str, key: str) -> None:
    known = list(TABLES[table].model_fields)
    if key not in known:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise BadInput(
            f"{where}: unknown key {key!r}", f"{hint}Keys of [{table}]: {', '.join(known)}."
        )


def _table(name: str, wishes: Iterable[Wish], kind: type[Any]) -> Any:
    """The table as a value, the last wish for a key winning; a wrong one is said with its place."""
    last = {wish.key: wish for wish in wishes if wish.table == name}
    try:
        return kind.model_validate({key: wish.value for key, wish in last.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise BadInput(
            f"{last[key].where}: {first['msg']}",
            f"{name}.{key}: {kind.model_fields[key].description}",
        ) from error
