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
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import click

from pipeline import __version__, places
from pipeline.errors import PipelineError

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


class Door(click.Group):
    """Turns our errors into two lines and exit code 1. A bug of ours keeps its trace."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        # what is half done is undone as after Ctrl-C: the candidate leaves Ollama
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except PipelineError as error:
            click.echo(error.told(), err=True)
            ctx.exit(1)
        except OSError as error:
            if error.errno not in PLACE:
                raise
            click.echo(f"Error: {error.filename or 'a file'}: {error.strerror}", err=True)
            click.echo(f"  {PLACE[error.errno]}", err=True)
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
        except PipelineError as error:
            value = {"errors": error.listed()}
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
    from pipeline import device as device_
    from pipeline import plan as planning
    from pipeline import release, spec
    from pipeline.source import read_source
    from pipeline.specialist import build, check, remarks
    from pipeline.stage import Where
    from pipeline.stages.preparing.telling import counted
    from pipeline.store import Store
    from pipeline.tools import server
    from pipeline.tools.capable import capable
    from pipeline.tools.ollama import Ollama
    from pipeline.view import duration, view, watcher

    asked = spec.read(
        name, modelfiles, base=base, sets=sets, quantize=quantize, skip_long=skip_long
    )
    source = read_source(data)[0]  # the rows are read again where they are needed
    check(asked)
    chosen = device_.choose(device)
    with view() as shown:
        address = server.ensure(lambda line: shown.say("ollama", line))
        with Ollama(address) as ollama:
            release.check_name_is_ours(name, ollama, replace=replace)
            store = Store(device=chosen.device, watcher=watcher(shown))
            for line in remarks(asked, source):
                shown.say("data", line)
            ahead = planning.plan(asked, source, store, chosen.memory)
            if ahead.seconds:
                capable(ollama, asked.parameters)
                shown.say("plan", f"about {duration(ahead.seconds)}, then the release")
                if ahead.parts:  # else prepare says it
                    shown.say("plan", counted(ahead.parts))
            made = build(asked, source, store, chosen.memory)
            if release.already_released(made, ollama):
                shown.done("release", "ready")
            else:
                if not ahead.seconds:
                    capable(ollama, asked.parameters)
                shown.start("release")
                where = Where(
                    threads=store.threads,
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
    from pipeline import device as device_
    from pipeline import plan as planning
    from pipeline import spec
    from pipeline.source import read_source
    from pipeline.specialist import check
    from pipeline.store import Store
    from pipeline.view import plan_text

    asked = spec.read(
        name, modelfiles, base=base, sets=sets, quantize=quantize, skip_long=skip_long
    )
    source = read_source(data)[0]  # the rows are read again where they are needed
    check(asked)
    chosen = device_.choose(device)
    made = planning.plan(asked, source, Store(device=chosen.device), chosen.memory)
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
    from pipeline import modelfile, names, spec
    from pipeline.errors import BadInput
    from pipeline.values import whole

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
        with whole(path) as beside:
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
    from pipeline import released

    found = released.registered()
    if as_json:
        values = [{**r.model_dump(mode="json"), "in_ollama": there} for r, there in found]
        click.echo(json.dumps(values, indent=1))
        return
    if not found:
        click.echo("No specialist yet. Make one:  make specialist DATA=data/brand-voice.jsonl")
        return
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
            "removed from Ollama" if there is False else "",
        )
        for record, there in found
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        click.echo("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())


@main.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def gc(dry_run: bool) -> None:
    """Remove finished and broken-off stages that no registered specialist uses.

    \b
    Example:
      specialist gc --dry-run
    """
    from pipeline import released
    from pipeline.store import Store

    keep: set[str] = set()
    for record, there in released.registered():
        if there is not False:
            keep.update(record.stages)
            continue
        click.echo(f"{record.name} was removed from Ollama: its stages are not kept")
        if not dry_run:
            released.forget(record.name)
    removed = Store().sweep(keep, dry_run=dry_run)
    for name, size in removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {name}  {size / 1e6:.0f} MB")
    total = sum(size for _, size in removed) / 1e6
    click.echo(f"{total:.0f} MB {'to free' if dry_run else 'freed'}, {len(keep)} stages in use")


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
