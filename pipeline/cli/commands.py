"""The command line: flags to values, errors to two lines and an exit code.

Exit codes: 0 done; 1 an error (what happened, what to do next); 2 wrong usage; 130 Ctrl-C.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from pipeline import __version__
from pipeline.common import places, private
from pipeline.common.errors import PipelineError

PLACE = {  # what is wrong with the user's disk or folders is no bug of ours
    errno.ENOSPC: "Free some space (`specialist gc` removes what no release uses) and run again.",
    errno.EDQUOT: "Free some space (`specialist gc` removes what no release uses) and run again.",
    errno.EACCES: "Give yourself the right to it, or set SPECIALIST_HOME to another folder.",
    errno.EPERM: "Give yourself the right to it, or set SPECIALIST_HOME to another folder.",
    errno.EROFS: "Set SPECIALIST_HOME to a folder that can be written.",
    errno.ENOTDIR: "Where a folder is wanted stands a file: name a folder.",
    errno.EEXIST: "Where a folder is wanted stands a file: name a folder.",
    errno.EISDIR: "Where a file is wanted stands a folder: name a file.",
}


def _ours(error: PipelineError | OSError) -> PipelineError | None:
    """The error for people; None for a bug of ours."""
    if isinstance(error, PipelineError):
        return error
    if error.errno not in PLACE:
        return None
    return PipelineError(f"{error.filename or 'a file'}: {error.strerror}", PLACE[error.errno])


class Door(click.Group):
    """Turns our errors into two lines and exit code 1. A bug of ours keeps its trace."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        private.shield()
        # what is half done is undone as after Ctrl-C: the candidate leaves Ollama
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup has it ignored
            signal.signal(signal.SIGHUP, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except (PipelineError, OSError) as error:
            if (ours := _ours(error)) is None:
                raise
            click.echo(ours.told(), err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("\nStopped.", err=True)
            click.echo("  Run the same command again: it goes on where it was.", err=True)
            ctx.exit(130)


@click.group(cls=Door, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="specialist")
def main() -> None:
    """Turn a file of conversations into a specialist model in your own Ollama.

    \b
    Examples:
      specialist make brand-voice --data data/brand-voice.jsonl
      specialist plan brand-voice --data data/brand-voice.jsonl
      specialist make support --data support.jsonl --base ./my-llama --set tune.epochs=2
      specialist init support
      specialist list
    """


def wanted(command: Any) -> Any:
    """The flags that say what to make: shared by `make` and `plan`."""
    options = [
        click.argument("name"),
        click.option(
            "--data",
            required=True,
            type=click.Path(path_type=Path),
            help="The conversations: JSON lines with “messages”.",
        ),
        click.option("--base", help="Another base than the Modelfile's FROM, for this run."),
        click.option(
            "--set",
            "sets",
            multiple=True,
            metavar="TABLE.KEY=VALUE",
            help="A setting for this run, as in tune.epochs=3. Can be given again.",
        ),
        click.option(
            "--quantize",
            metavar="TYPE",
            help="As --set pack.quantization=TYPE; TYPE,TYPE packs several and serves the first.",
        ),
        click.option("--skip-long", is_flag=True, help="Leave out rows longer than the context."),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="Where to train.",
        ),
        click.option(
            "--modelfiles",
            type=click.Path(path_type=Path),
            default=places.MODELFILES,
            show_default=True,
            help="Folder of NAME.Modelfile and NAME.toml (both optional).",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def json_or_text(command: Any) -> Any:
    """Adds --json: the command returns a text for people and a value, one of them is printed.

    With --json an error is {"errors": [{"what", "next_step", and "file", "line" where known}]} on
    stdout, with all faults of a file; what a run says on its way goes to stderr.
    """

    @click.option(
        "--json", "as_json", is_flag=True, help="Print the result, or all errors, as JSON."
    )
    @functools.wraps(command)
    def run(*, as_json: bool, **given: Any) -> None:
        if not as_json:
            click.echo(command(**given)[0])
            return
        try:
            with redirect_stdout(sys.stderr):
                value = command(**given)[1]
        except (PipelineError, OSError) as error:
            if (ours := _ours(error)) is None:
                raise
            value = {"errors": ours.listed()}
        click.echo(json.dumps(value, indent=1, ensure_ascii=False))
        if "errors" in value:
            click.get_current_context().exit(1)

    return run


@main.command()
@wanted
@json_or_text
@click.option("--replace", is_flag=True, help="Take NAME even if another model has it.")
def make(
    name: str,
    data: Path,
    base: str | None,
    sets: tuple[str, ...],
    quantize: str | None,
    skip_long: bool,
    device: str,
    modelfiles: Path,
    replace: bool,
) -> tuple[str, dict[str, Any]]:
    """Train, register and prove the specialist NAME.

    What was made before is not made again; a run that was stopped goes on where it was. NAME in
    Ollama moves only when the new model is proven to be served as it was trained; the former one
    stays as NAME:previous.

    \b
    Examples:
      specialist make brand-voice --data data/brand-voice.jsonl
      specialist make brand-voice --data data/brand-voice.jsonl --quantize Q4_K_M
    """
    from pipeline import plan as planning
    from pipeline.chain import build, check, remarks
    from pipeline.cli.view import duration, view, watcher
    from pipeline.intake.source import read_source
    from pipeline.made.stage import Where
    from pipeline.release import publish as release
    from pipeline.run.child_process import ChildProcess
    from pipeline.run.store import Store
    from pipeline.spec import spec
    from pipeline.stages.preparing.telling import counted
    from pipeline.tools import device as device_
    from pipeline.tools import server
    from pipeline.tools.capable import capable
    from pipeline.tools.ollama import Ollama

    asked = spec.read(
        name, modelfiles, base=base, sets=sets, quantize=quantize, skip_long=skip_long
    )
    source = read_source(data)[0]  # the rows are read again where they are needed
    chosen = device_.choose(device)
    store = Store()
    with view() as shown, store.lease():
        check(asked, lambda progress: shown.report("base", progress))
        address = server.ensure(lambda line: shown.say("ollama", line))
        with Ollama(address) as ollama:
            release.settle(name, ollama, lambda line: shown.say("release", line), replace=replace)
            engine = ChildProcess(store, watcher(shown), device=chosen.device)
            for line in remarks(asked, source):
                shown.say("data", line)
            ahead = planning.plan(asked, source, store, chosen.memory)
            if ahead.seconds:
                capable(ollama, asked.parameters)
                shown.say("plan", f"about {duration(ahead.seconds)}, then the release")
                if ahead.parts:  # else prepare says it
                    shown.say("plan", counted(ahead.parts))
            made = build(asked, source, engine, chosen.memory)
            if release.nothing_to_do(made, ollama, lambda line: shown.say("release", line)):
                shown.done("release", "ready")
            else:
                if not ahead.seconds:
                    capable(ollama, asked.parameters)
                shown.start("release")
                where = Where(
                    threads=engine.threads,
                    report=lambda progress: shown.report("release", progress),
                    say=lambda line: shown.say("release", line),
                )
                proof = release.release(made, ollama, where=where, replace=replace)
                shown.say("release", proof.summary)
                shown.done("release", "registered")
    run = server.run_line(name, address)
    others = [str(file) for file in made.gguf.others]
    lines = [*(f"also packed:  {file}" for file in others), f"{name} is ready:  {run}"]
    return "\n".join(lines), {"name": name, "run": run, "also_packed": others}


@main.command()
@wanted
@json_or_text
def plan(
    name: str,
    data: Path,
    base: str | None,
    sets: tuple[str, ...],
    quantize: str | None,
    skip_long: bool,
    device: str,
    modelfiles: Path,
) -> tuple[str, dict[str, Any]]:
    """Show what `make` would do, with which settings and how long; makes nothing.

    \b
    Example:
      specialist plan brand-voice --data data/brand-voice.jsonl --set tune.rank=32
    """
    from pipeline import plan as planning
    from pipeline.chain import check
    from pipeline.cli.view import plan_text, view
    from pipeline.intake.source import read_source
    from pipeline.run.store import Store
    from pipeline.spec import spec
    from pipeline.tools import device as device_

    asked = spec.read(
        name, modelfiles, base=base, sets=sets, quantize=quantize, skip_long=skip_long
    )
    source = read_source(data)[0]  # the rows are read again where they are needed
    with view() as shown:
        check(asked, lambda progress: shown.report("base", progress))
    chosen = device_.choose(device)
    made = planning.plan(asked, source, Store(), chosen.memory)
    return plan_text(made), made.model_dump(mode="json")


@main.command()
@click.argument("name")
@click.option("--base", default=None, help="What FROM says in it.")
@click.option(
    "--modelfiles", type=click.Path(path_type=Path), default=places.MODELFILES, show_default=True
)
def init(name: str, base: str | None, modelfiles: Path) -> None:
    """Write a starter NAME.Modelfile and NAME.toml to edit.

    \b
    Example:
      specialist init support
    """
    from pipeline.common import names
    from pipeline.common.errors import BadInput
    from pipeline.common.values import whole
    from pipeline.spec import modelfile, spec

    names.check_name(name)
    chosen = base or spec.DEFAULT_BASE
    if chosen.startswith(("./", "../")):  # as the user wrote it; FROM starts at the Modelfile
        chosen = os.path.relpath(chosen, modelfiles)
        chosen = chosen if chosen.startswith("../") else f"./{chosen}"
    texts = {
        modelfiles / f"{name}.Modelfile": modelfile.starter(name, chosen),
        modelfiles / f"{name}.toml": spec.starter(),
    }
    for path in texts:
        if path.exists():
            raise BadInput(f"{path} exists already", "Edit it, or remove it first.")
    for path, text in texts.items():
        with private.as_the_user(), whole(path) as beside:
            beside.write_text(text, encoding="utf-8")
        click.echo(f"wrote {path}")
    click.echo(f"next:  specialist make {name} --data FILE.jsonl")


@main.command("list")
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


@main.command()
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
        if not dry_run:
            for name in given_up:
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
