"""Base and specialist side by side: `specialist ask NAME "…"`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import modelfiles as with_modelfiles

PATIENCE = 512  # tokens of an answer


@click.command()
@click.argument("name")
@click.argument("question")
@with_modelfiles()
def ask(name: str, question: str, modelfiles: Path) -> None:
    """Ask the specialist NAME and its base the same question, and show what each answers.

    The base is your own model where it came out of Ollama; else it is registered for this as
    specialist-base/…, which `specialist gc` removes.

    \b
    Example:
      specialist ask brand-voice "Why should I buy wool socks from you?"
    """
    from pipeline.cli.columns import answers
    from pipeline.common.errors import PipelineError
    from pipeline.common.names import full
    from pipeline.release import base_beside, history
    from pipeline.tools import server
    from pipeline.tools.ollama import Ollama

    version = history.known(name).current
    with Ollama(server.ensure(lambda line: click.echo(line, err=True))) as ollama:
        asked = {name: full(name)}
        try:
            base = base_beside.base_of(version, ollama, [modelfiles, Path.cwd()])
        except PipelineError as error:
            click.echo(f"the base is not asked: {error.what}", err=True)
        else:
            asked = {f"base ({version.origin})": base, **asked}
        with answers(list(asked)) as told:
            for model, tell in zip(asked.values(), told, strict=True):
                ollama.run_once(model, question, patience=PATIENCE, told=tell)
                tell("\n\n" if model != full(name) else "\n")
