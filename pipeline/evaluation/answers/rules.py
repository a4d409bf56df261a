"""Whether an answer keeps a rule of the user's (`pipeline/spec/rules.py`)."""

from __future__ import annotations

import json
from typing import Any

from pipeline.spec.rules import Rule

SECONDS = 0.5  # of a pattern on one answer: it is the user's, and may be one that takes for ever
_LATE = f"its pattern was stopped after {SECONDS} seconds"


def broken(rule: Rule, text: str) -> str:
    """Why an answer breaks a rule, in a few words; '' if it keeps it.

    A pattern that is stopped is broken: it is not known to match.
    """
    folded = text.casefold()
    for wanted in rule.contains:
        if wanted.casefold() not in folded:
            return f"lacks “{wanted}”"
    for unwanted in rule.lacks:
        if unwanted.casefold() in folded:
            return f"contains “{unwanted}”"
    if rule.longest is not None and len(text) > rule.longest:
        return f"has {len(text)} characters"
    if rule.pattern is not None and (why := _unmatched(rule.pattern, text)):
        return why
    return "" if rule.json_schema is None else _no_such_json(rule.json_schema, text)


def late(why: str) -> bool:
    """The pattern was stopped: it is the rule that has to be mended."""
    return why == _LATE


def _unmatched(pattern: str, text: str) -> str:
    import regex

    try:
        return "" if regex.search(pattern, text, timeout=SECONDS) else "does not match"
    except TimeoutError:
        return _LATE


def _no_such_json(schema: Any, text: str) -> str:
    from jsonschema.exceptions import ValidationError, best_match

    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "is no JSON"
    try:
        error = best_match(_validator(schema).iter_errors(value))
    except TimeoutError:
        return _LATE
    except RecursionError:
        return "is JSON too deep to be checked"
    if not isinstance(error, ValidationError):
        return ""
    return f"{error.json_path}: {error.message}"[:200]


def _validator(schema: Any) -> Any:
    """With an empty registry: nothing that it refers to is fetched; patterns have a time limit."""
    import regex
    from jsonschema.exceptions import ValidationError
    from jsonschema.validators import Draft202012Validator, extend, validator_for
    from referencing import Registry

    def pattern(validator: Any, wanted: str, instance: Any, _: Any) -> Any:
        if isinstance(instance, str) and not regex.search(wanted, instance, timeout=SECONDS):
            yield ValidationError(f"{instance!r} does not match {wanted!r}")

    kind = extend(validator_for(schema, default=Draft202012Validator), {"pattern": pattern})
    return kind(schema, registry=Registry())
