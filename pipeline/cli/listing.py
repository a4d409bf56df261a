"""What is registered: `specialist list`, and `specialist list NAME` with its versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pipeline.common.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.release.history import History
    from pipeline.release.tags import Tags
    from pipeline.release.version import Version

ROWS = {"trained", "tested"}  # of a version: eight characters each, for programs of ours alone
NONE_YET = "No specialist yet. Make one:  make specialist DATA=data/brand-voice.jsonl"


@click.command("list")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def list_(name: str | None, as_json: bool) -> None:
    """List the registered specialists, or all versions of NAME.

    VERSION is what Ollama serves now; LOSS is that of the validation.

    \b
    Examples:
      specialist list --json
      specialist list brand-voice
    """
    if name is None:
        return _all(as_json)
    try:
        _one(name, as_json)
    except PipelineError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"errors": error.listed()}, indent=1))
        click.get_current_context().exit(1)


def _all(as_json: bool) -> None:
    from pipeline.release import history, promotion, state

    readable, faults = history.histories()
    found = state.in_ollama(readable)
    broken = set(promotion.broken_off())
    if as_json:
        values = [
            {
                **_shown(known, tags).model_dump(mode="json", exclude=ROWS),
                "current": known.head.current,
                "in_ollama": state.has_any(known, tags),
                "broken_off": known.name.lower() in broken,
            }
            for known, tags in found
        ]
        values += [{"errors": fault.listed()} for fault in faults.values()]
        click.echo(json.dumps(values, indent=1))
    elif found or not faults:
        click.echo(_names(found, broken))
    for fault in [] if as_json else faults.values():
        click.echo(fault.told(), err=True)
    if faults:
        click.get_current_context().exit(1)


def _shown(known: History, tags: Tags | None) -> Version:
    """The version that is served, if Ollama tells."""
    return (known.served(tags.latest) if tags else None) or known.current


def _names(found: list[tuple[History, Tags | None]], broken: set[str]) -> str:
    if not found:
        return NONE_YET
    head = ("NAME", "VERSION", "BASE", "DATA", "ROWS", "LOSS", "TYPE", "SIZE", "DATE", "")
    rows = []
    for known, tags in found:
        v = _shown(known, tags)
        data, rows_ = (v.data or "-")[:8], "-" if v.rows is None else str(v.rows)
        state = _state(known, tags, broken)
        facts = (v.quantization or "-", _size(v), (v.when or "-")[:10], state)
        rows.append((v.name, v.label, v.base or "-", data, rows_, _loss(v), *facts))
    return table(head, rows)


def _state(known: History, tags: Tags | None, broken: set[str]) -> str:
    from pipeline.release import state

    if known.name.lower() in broken:
        return "a release broke off or is going on: make it again"
    if state.has_any(known, tags) is False:
        return "removed from Ollama"
    return _not_served(known, tags)


def _not_served(known: History, tags: Tags | None) -> str:
    """Why none of the versions is served; '' where one is, or where it is not known."""
    from pipeline.common.names import full

    if tags is None or known.served(tags.latest):
        return ""
    if tags.latest is None:
        return f"{full(known.name)} is gone from Ollama"
    return f"{full(known.name)} is a model that was not made here"


def _one(name: str, as_json: bool) -> None:
    from pipeline.release import history, state

    known = history.known(name)
    [(_, tags)] = state.in_ollama([known])
    states = [state.state(known, version, tags) for version in known.versions]
    pairs = list(zip(known.versions, states, strict=True))
    if as_json:
        values: list[dict[str, Any]] = [
            {**version.model_dump(mode="json", exclude=ROWS), "state": word}
            for version, word in pairs
        ]
        click.echo(json.dumps(values, indent=1))
        return
    head = ("VERSION", "DATE", "BASE", "TYPE", "LOSS", "SIZE", "VERDICT", "PROOF", "")
    rows = [_row(version, state.WORDS[word]) for version, word in pairs]
    click.echo(table(head, rows))
    if tags is None:
        click.echo(f"what is served is not known: no Ollama answers at {known.current.ollama}")
    elif why := _not_served(known, tags):
        click.echo(why)


def _row(version: Version, state: str) -> tuple[str, ...]:
    when = (version.when or "-")[:16].replace("T", " ")
    proof = version.proof
    proven = (
        f"{proof.conversations} prompts, {proof.answers + proof.runs} answers" if proof else "-"
    )
    kind = version.quantization or "-"
    last = ", ".join(filter(None, (state, _judged(version), version.note)))
    base = version.base or "-"
    verdict = version.verdict.says if version.verdict and version.verdict.checks else "-"
    facts = (_loss(version), _size(version), verdict, proven, last)
    return (version.label, when, base, kind, *facts)


def _judged(version: Version) -> str:
    """Whether it is not served for its verdict, or served in spite of it."""
    found = version.verdict
    if found and found.because:
        return f"served in spite of its verdict: {found.because}"
    return "not good enough to be served" if version.stopped else ""


def _loss(version: Version) -> str:
    return "-" if version.loss is None else f"{version.loss:.3f}"


def _size(version: Version) -> str:
    return "-" if version.size is None else f"{version.size / 1e6:.0f} MB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns for people."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = (
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )
    return "\n".join(lines)
