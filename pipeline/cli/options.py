"""Flags that several commands share."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from pipeline.cli.outer import ours
from pipeline.common import places
from pipeline.common.errors import PipelineError


def modelfiles(what: str = "Folder that a relative FROM starts from.") -> Callable[[Any], Any]:
    """The flag that names the folder of Modelfiles; `what` it is to the command."""
    return click.option(
        "--modelfiles",
        type=click.Path(path_type=Path),
        default=places.MODELFILES,
        show_default=True,
        help=what,
    )


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
            "--allow-download",
            is_flag=True,
            help="A base of the hub (FROM hub:…) that is not here may be downloaded.",
        ),
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
        click.option(
            "--template",
            metavar="NAME",
            help="As --set fetch.template=NAME: plain, chatml, llama3 or gemma, for a base that has"
            " no chat template.",
        ),
        click.option("--skip-long", is_flag=True, help="Leave out rows longer than the context."),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="Where to train.",
        ),
        modelfiles("Folder of NAME.Modelfile and NAME.toml (both optional)."),
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
        code = 0
        try:
            with redirect_stdout(sys.stderr):
                value = command(**given)[1]
        except (PipelineError, OSError) as error:
            if (told := ours(error)) is None:
                raise
            value, code = {"errors": told.listed()}, told.exit_code
        click.echo(json.dumps(value, indent=1, ensure_ascii=False))
        if code:
            click.get_current_context().exit(code)

    return run
