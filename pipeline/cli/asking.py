"""Base and specialist side by side: `specialist ask NAME "…"`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.common import places

if TYPE_CHECKING:
    from pipeline.tools.ollama import Ollama


@click.command()
@click.argument("name")
@click.argument("question")
@click.option(
    "--modelfiles",
    type=click.Path(path_type=Path),
    default=places.MODELFILES,
    show_default=True,
    help="Folder that a relative FROM starts from.",
)
def ask(name: str, question: str, modelfiles: Path) -> None:
    """Ask the specialist NAME and its base the same question, and show what each answers.

    The base is your own model where it came out of Ollama; else it is registered for this as
    specialist-base/…, which `specialist gc` removes.

    \b
    Example:
      specialist ask brand-voice "Why should I buy wool socks from you?"
    """
    from pipeline.common.errors import PipelineError
    from pipeline.common.names import full
    from pipeline.release import base_beside, history
    from pipeline.tools import server
    from pipeline.tools.ollama import Ollama

    version = history.known(name).current
    with Ollama(server.ensure(lambda line: click.echo(line, err=True))) as ollama:
        try:
            base = base_beside.base_of(version, ollama, [modelfiles, Path.cwd()])
        except PipelineError as error:
            click.echo(f"the base is not asked: {error.what}", err=True)
        else:
            _answer(ollama, f"base ({version.origin})", base, question)
        _answer(ollama, name, full(name), question)


def _answer(ollama: Ollama, title: str, model: str, question: str) -> None:
    click.secho(f"— {title} —", bold=True)
    ollama.run_once(model, question, patience=512, told=lambda text: click.echo(text, nl=False))
    click.echo("\n")
