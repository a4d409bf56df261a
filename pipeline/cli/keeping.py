"""What is registered and what is kept: `specialist list`, `specialist gc`."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def list_(as_json: bool) -> None:
    """List the registered specialists; LOSS is that of the validation.

    \b
    Example:
      specialist list --json
    """
    from pipeline.release import promotion, released

    readable, faults = released.records()
    found = released.in_ollama(readable)
    broken = set(promotion.broken_off())
    if as_json:
        values: list[dict[str, Any]] = [
            {
                **r.model_dump(mode="json"),
                "in_ollama": there,
                "broken_off": r.name.lower() in broken,
            }
            for r, there in found
        ]
        values += [{"errors": fault.listed()} for fault in faults.values()]
        click.echo(json.dumps(values, indent=1))
    elif found or not faults:
        click.echo(_table(found, broken))
    for fault in [] if as_json else faults.values():
        click.echo(fault.told(), err=True)
    if faults:
        click.get_current_context().exit(1)


def _state(name: str, there: bool | None, broken: set[str]) -> str:
    if name.lower() in broken:
        return "a release broke off or is going on: make it again"
    return "removed from Ollama" if there is False else ""


def _table(found: list[tuple[Any, bool | None]], broken: set[str]) -> str:
    """The specialists for people."""
    if not found:
        return "No specialist yet. Make one:  make specialist DATA=data/brand-voice.jsonl"
    head = ("NAME", "BASE", "DATA", "ROWS", "LOSS", "TYPE", "SIZE", "DATE", "")
    rows = [
        (
            record.name,
            record.base,
            record.data[:8],
            str(record.rows),
            "-" if record.loss is None else f"{record.loss:.3f}",
            record.quantization,
            f"{record.size / 1e6:.0f} MB",
            record.when[:10],
            _state(record.name, there, broken),
        )
        for record, there in found
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = (
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )
    return "\n".join(lines)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option(
    "--forget",
    "given_up",
    multiple=True,
    metavar="NAME",
    help="Give up the record of NAME as well, and so its stages; Ollama keeps what it has.",
)
def gc(dry_run: bool, given_up: tuple[str, ...]) -> None:
    """Remove finished and broken-off stages that no specialist and no running command uses.

    What a registered specialist was made of stays, and what its NAME:previous was made of, also
    where Ollama has neither (any more).

    \b
    Examples:
      specialist gc --dry-run
      specialist gc --forget support
    """
    from pipeline.release import promotion, released
    from pipeline.run.store import Store

    gone = {name.lower() for name in given_up}
    found, _ = released.records()
    for record, there in released.in_ollama([r for r in found if r.name.lower() not in gone]):
        if there is False:
            click.echo(
                f"{record.name} is no longer in Ollama; its stages are kept. "
                f"To give them up:  specialist gc --forget {record.name}"
            )
    kept: set[str] = set()

    def used() -> set[str]:  # asked when nobody can begin to use anything, or register it
        found, faults = released.records()
        for fault in (fault for name, fault in faults.items() if name not in gone):
            raise type(fault)(f"nothing was removed: {fault.what}", fault.next_step)
        journals = [promotion.noted(name) for name in promotion.broken_off() if name not in gone]
        for name in sorted(gone):  # all or none
            released.files(name)
        for name in [] if dry_run else sorted(gone):
            released.forget(name)
        now = [*found, *(journal.record for journal in journals if journal and journal.record)]
        for record in (record for record in now if record.name.lower() not in gone):
            kept.update(record.stages, record.earlier)
        return kept

    removed = Store().sweep(used, dry_run=dry_run)
    for name, size in removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {name}  {size / 1e6:.0f} MB")
    total = sum(size for _, size in removed) / 1e6
    click.echo(f"{total:.0f} MB {'to free' if dry_run else 'freed'}, {len(kept)} stages in use")
