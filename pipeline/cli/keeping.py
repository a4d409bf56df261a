"""What is kept in the store: `specialist gc`."""

from __future__ import annotations

import shlex

import click


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
    """Remove stages that no specialist and no running command uses, and reports of what is gone.

    What the versions of a registered specialist were made of stays, also where Ollama has none of
    them (any more); `specialist remove NAME vN` gives one up. Downloads of the hub stay, too: it
    says how large they are, and how to remove them.

    \b
    Examples:
      specialist gc --dry-run
      specialist gc --forget support
    """
    from pipeline.bases.hub import kept as hub
    from pipeline.common.words import size as words
    from pipeline.evaluation.answers import kept as kept_answers
    from pipeline.release import history, promotion, reports, state
    from pipeline.run.store import Store

    gone = {name.lower() for name in given_up}
    found, _ = history.histories()
    for known, tags in state.in_ollama(one for one in found if one.name.lower() not in gone):
        if state.has_any(known, tags) is False:
            click.echo(
                f"{known.name} is no longer in Ollama; its stages are kept. "
                f"To give them up:  specialist gc --forget {known.name}"
            )
    kept: set[str] = set()

    def used() -> set[str]:  # asked when nobody can begin to use anything, or register it
        found, faults = history.histories()
        for fault in (fault for name, fault in faults.items() if name not in gone):
            raise type(fault)(f"nothing was removed: {fault.what}", fault.next_step)
        journals = [promotion.noted(name) for name in promotion.broken_off() if name not in gone]
        for name in sorted(gone):  # all or none
            history.files(name)
        for name in [] if dry_run else sorted(gone):
            history.forget(name)
        for one in [*(one for one in found if one.name.lower() not in gone), *journals]:
            kept.update(one.stages if one else ())
        return kept

    removed = Store().sweep(used, dry_run=dry_run)
    for name, size in removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {name}  {size / 1e6:.0f} MB")
    total = sum(size for _, size in removed) / 1e6
    click.echo(f"{total:.0f} MB {'to free' if dry_run else 'freed'}, {len(kept)} stages in use")
    found, _ = history.histories()
    for path in reports.stale(one for one in found if one.name.lower() not in gone):
        click.echo(f"{'would remove' if dry_run else 'removed'} the report {path}")
        if not dry_run:
            path.unlink(missing_ok=True)
    for path in kept_answers.stale(one for one in found if one.name.lower() not in gone):
        click.echo(f"{'would remove' if dry_run else 'removed'} the answers {path}")
        if not dry_run:
            path.unlink(missing_ok=True)
    for tag in _bases(dry_run=dry_run):
        click.echo(f"{'would remove' if dry_run else 'removed'} {tag} from Ollama")
    for path, size in hub.downloads().items():
        what = "an unfinished download" if path.suffix == ".draft" else "a download"
        click.echo(f"kept: {what} of {words(size)}; to give it up:  rm -r {shlex.quote(str(path))}")


def _bases(*, dry_run: bool) -> list[str]:
    """Bases that `ask` registered; removed, where an Ollama answers."""
    from pipeline.release import base_beside
    from pipeline.run.checks import serving
    from pipeline.tools.ollama import Ollama

    if (where := serving.running()) is None:
        return []
    with Ollama(where) as ollama:
        found = base_beside.registered(ollama)
        for tag in [] if dry_run else found:
            ollama.delete(tag)
    return found
