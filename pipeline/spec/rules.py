"""[evaluate.rules.NAME] of the toml: what every answer has to keep, in the user's own words."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from pipeline.common.errors import BadInput
from pipeline.spec import toml_lines
from pipeline.spec.table import Table

EXAMPLE = [
    "# [evaluate.rules.no-discounts]",
    '# lacks = ["discount", "% off"]',
    "# max_broken = 0.1",
]


class Rule(Table):
    """One rule; all of its keys have to hold."""

    name: str
    contains: tuple[str, ...] = Field(
        (), description="A text, or a list of texts, that must stand in it, in any case of letters."
    )
    lacks: tuple[str, ...] = Field(
        (), description="A text, or a list of texts, of which none may stand in it, in any case."
    )
    pattern: str | None = Field(
        None,
        description="A regular expression that must be found in it, as Python's `regex` reads it:"
        " capitals count and . ends at a line; (?i), (?s) and (?m) in front change that.",
    )
    json_schema: dict[str, Any] | bool | None = Field(
        None,
        alias="schema",
        description="A file beside the toml with a JSON schema: the answer must be such JSON.",
    )
    longest: int | None = Field(None, ge=1, description="Characters that it may have.")
    max_broken: float = Field(
        0.1, ge=0, le=1, description="The share of answers that may break the rule."
    )

    @field_validator("contains", "lacks", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("contains", "lacks")
    @classmethod
    def _said(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(value):
            raise ValueError("an empty text stands in every answer")
        return value

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        import regex

        try:
            regex.compile(value or "")
        except regex.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return value


def read(value: object, path: Path, text: str) -> tuple[Rule, ...]:
    """The rules of a toml.

    Args:
        value: what stands at `rules`, as tomllib reads it.
        path, text: of the toml, for errors.

    Raises:
        BadInput: with file and line.
    """
    if not isinstance(value, Mapping):
        where = f"{path}{toml_lines.line(text, 'evaluate', 'rules')}"
        raise BadInput(f"{where}: rules are tables", "As in: [evaluate.rules.no-discounts]")
    return tuple(_rule(str(name), keys, path, text) for name, keys in value.items())


def _rule(name: str, keys: object, path: Path, text: str) -> Rule:
    def place(key: str = "") -> str:
        return f"{path}{toml_lines.line(text, 'evaluate', 'rules', name, *filter(None, [key]))}"

    if not isinstance(keys, Mapping):
        raise BadInput(f"{place()}: {name} is no table", f"Write: [evaluate.rules.{name}]")
    known = {field.alias or key: field for key, field in Rule.model_fields.items() if key != "name"}
    for key in keys:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]}? " if close else ""
            raise BadInput(
                f"{place(key)}: unknown key {key!r}", f"{hint}Keys of a rule: {', '.join(known)}."
            )
    if not keys.keys() - {"max_broken"}:
        raise BadInput(
            f"{place()}: the rule {name} says nothing", f"Keys of a rule: {', '.join(known)}."
        )
    values = dict(keys)
    if "schema" in values:
        values["schema"] = _schema(path.parent, values["schema"], place("schema"))
    try:
        return Rule.model_validate({"name": name, **values})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        said = "" if key == "schema" else f" = {keys[key]!r}"
        raise BadInput(
            f"{place(key)}: rules.{name}.{key}{said}: {first['msg']}",
            f"{key}: {known[key].description}",
        ) from error


def _schema(folder: Path, file: object, where: str) -> Any:
    """What the file of a schema holds; nothing that it refers to is fetched.

    Raises:
        BadInput: it cannot be read, is no schema, or refers to another file or address.
    """
    from jsonschema import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    if not isinstance(file, str):
        raise BadInput(f"{where}: schema is the name of a file", 'As in: schema = "answer.json"')
    try:
        schema = json.loads((folder / file).read_text(encoding="utf-8-sig"))
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except OSError as error:
        raise BadInput(f"{where}: {folder / file}: {error.strerror}", "Check its name.") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: {folder / file}: {error}", "Mend this file.") from error
    except SchemaError as error:
        raise BadInput(
            f"{where}: {folder / file} is no JSON schema: {error.message}", "Mend this file."
        ) from error
    for found in _references(schema):
        if not found.startswith("#"):
            raise BadInput(
                f"{where}: {folder / file} refers to {found}: nothing is fetched",
                "Put it under $defs of the same file, and refer to #/$defs/….",
            )
    return schema


def _references(schema: object) -> Iterator[str]:
    """Every $ref of a schema."""
    if isinstance(schema, Mapping):
        for key in ("$ref", "$dynamicRef"):
            if isinstance(schema.get(key), str):
                yield schema[key]
    inside = schema.values() if isinstance(schema, Mapping) else schema
    for part in inside if isinstance(schema, Mapping | list) else ():  # type: ignore[attr-defined]
        yield from _references(part)
