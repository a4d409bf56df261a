"""The command line: flags to values, values to words."""

from __future__ import annotations

import os
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import click

from pipeline import __version__
from pipeline.cli import (
    asking,
    basing,
    doctoring,
    evaluating,
    keeping,
    listing,
    reporting,
    versions,
)
from pipeline.cli.again import offered
from pipeline.cli.options import json_or_text, wanted
from pipeline.cli.options import modelfiles as with_modelfiles
from pipeline.cli.outer import Door
from pipeline.common import private


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
      specialist list support
      specialist rollback support
    """


@main.command()
@wanted
@json_or_text
@click.option("--replace", is_flag=True, help="Take NAME even if another model has it.")
@click.option("--force", is_flag=True, help="Serve it though the verdict is stop; needs --because.")
@click.option("--because", metavar="WHY", default="", help="Why; `list` shows it from then on.")
@offered
def make(
    name: str,
    data: Path,
    base: str | None,
    allow_download: bool,
    sets: tuple[str, ...],
    quantize: str | None,
    template: str | None,
    skip_long: bool,
    device: str,
    modelfiles: Path,
    replace: bool,
    force: bool,
    because: str,
) -> tuple[str, dict[str, Any]]:
    """Train, register and prove the specialist NAME.

    What was made before is not made again; a run that was stopped goes on where it was. NAME in
    Ollama moves only when the new model is proven to be served as it was trained. It stays as
    NAME:vN beside those before it: `specialist list NAME`, `specialist rollback NAME`.

    It must be better than its base on rows that it never saw, and not shown to be worse than what
    NAME is now; else NAME stays what it is (exit code 3), and NAME:vN is there to be looked at.

    \b
    Examples:
      specialist make brand-voice --data data/brand-voice.jsonl
      specialist make brand-voice --data data/brand-voice.jsonl --quantize Q4_K_M
      specialist make brand-voice --data new.jsonl --force --because "new tone, agreed in May"
    """
    from pipeline.cli.view import view, watcher
    from pipeline.common.errors import BadInput
    from pipeline.intake.source import locate
    from pipeline.make import make as make_
    from pipeline.spec import spec
    from pipeline.tools import device as device_
    from pipeline.tools import server

    if force != bool(because.strip()):
        raise BadInput(
            "--force and --because go together",
            "Say why: --force --because 'the old one is wrong about prices'.",
        )
    asked = spec.read(
        name,
        modelfiles,
        base=base,
        sets=sets,
        quantize=quantize,
        template=template,
        skip_long=skip_long,
    )
    source = locate(data)
    chosen = device_.choose(device)
    with view() as shown:
        made, address = make_(
            asked,
            source,
            chosen,
            shown,
            watcher(shown),
            replace=replace,
            download=allow_download,
            because=because.strip(),
        )
    run = server.run_line(name, address)
    others = [str(file.path) for file in list(made.packed.files.values())[1:]]
    lines = [*(f"also packed:  {file}" for file in others), f"{name} is ready:  {run}"]
    return "\n".join(lines), {"name": name, "run": run, "also_packed": others}


@main.command()
@wanted
@json_or_text
@offered
def plan(
    name: str,
    data: Path,
    base: str | None,
    allow_download: bool,
    sets: tuple[str, ...],
    quantize: str | None,
    template: str | None,
    skip_long: bool,
    device: str,
    modelfiles: Path,
) -> tuple[str, dict[str, Any]]:
    """Show what `make` would do, with which settings and how long; only reads the rows.

    \b
    Example:
      specialist plan brand-voice --data data/brand-voice.jsonl --set tune.rank=32
    """
    from pipeline import plan as planning
    from pipeline.cli.view import plan_text, view, watcher
    from pipeline.intake.source import locate
    from pipeline.make import look_at
    from pipeline.run.child_process import ChildProcess
    from pipeline.spec import spec
    from pipeline.tools import device as device_

    asked = spec.read(
        name,
        modelfiles,
        base=base,
        sets=sets,
        quantize=quantize,
        template=template,
        skip_long=skip_long,
    )
    source = locate(data)
    chosen = device_.choose(device)
    with view() as shown:
        quiet = changed(watcher(shown), ready=lambda stage: None)  # the plan says it
        engine = ChildProcess(watcher=quiet)
        look_at(asked, source, engine, shown, download=allow_download)
        made = planning.plan(asked, source, engine, chosen.memory)
    return plan_text(made), made.model_dump(mode="json")


@main.command()
@click.argument("name")
@click.option("--base", default=None, help="What FROM says in it.")
@with_modelfiles("Folder that they are written to.")
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
    if base is None and (tag := basing.proposed()):
        line = f"specialist make {name} --data FILE.jsonl --base {tag}"
        click.echo(f"or with the best of your Ollama for this machine:  {line}")


for command in (
    basing.bases,
    asking.ask,
    doctoring.doctor,
    evaluating.evaluate,
    reporting.report,
    listing.list_,
    versions.rollback,
    versions.verify,
    versions.remove,
    keeping.gc,
):
    main.add_command(command)
