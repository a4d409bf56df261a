"""The versions of a name: `specialist rollback`, `specialist remove`, `specialist verify`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.cli.view import View
    from pipeline.tools.ollama import Ollama


class Number(click.ParamType[int]):
    """`v3`, as it is listed; `3` is the same."""

    name = "vN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        found = re.fullmatch(r"v?([1-9][0-9]{0,5})", str(value), re.IGNORECASE)
        if not found:
            self.fail(f"{value!r} is no version: write v1, v2, …", param, ctx)
        return int(found[1])


VERSION = Number()


@click.command()
@click.argument("name")
@click.argument("version", type=VERSION, required=False, metavar="[vN]")
def rollback(name: str, version: int | None) -> None:
    """Let NAME serve another one of its versions again.

    Without a number it is the one before what is served. Nothing is made, proven or removed; the
    version that was served stays, and `rollback` leads back to it as well.

    \b
    Examples:
      specialist rollback brand-voice
      specialist rollback brand-voice v3
    """
    from pipeline.cli.view import view
    from pipeline.release import history
    from pipeline.release.rollback import rollback as rollback_
    from pipeline.tools import server

    history.known(name)  # before an Ollama is started
    with view() as shown, _ollama(shown) as ollama:
        now = rollback_(name, ollama, version, lambda line: shown.say("release", line))
        run = server.run_line(name, ollama.address)
    click.echo(f"{name} serves {now.label} again:  {run}")


@click.command()
@click.argument("name")
@click.argument("version", type=VERSION, metavar="vN")
def remove(name: str, version: int) -> None:
    """Remove a version of NAME that is not served.

    Its tag goes from Ollama, and its stages go with the next `specialist gc`, unless another
    version uses them. Its record stays in the list, and its number is not used again.

    \b
    Example:
      specialist remove brand-voice v1
    """
    from pipeline.cli.view import view
    from pipeline.release import history
    from pipeline.release.removal import remove as remove_

    history.known(name)
    with view() as shown, _ollama(shown) as ollama:
        gone = remove_(name, ollama, version, lambda line: shown.say("release", line))
    click.echo(f"{gone.tag} is removed; to free its stages:  specialist gc")


@click.command()
@click.argument("name")
def verify(name: str) -> None:
    """Run the proof again on what NAME serves now.

    It is compared with what the store keeps of the version that is served. Nothing is changed; if
    it differs, the first difference is printed and the exit code is 1.

    \b
    Example:
      specialist verify brand-voice
    """
    from pipeline.cli.view import view
    from pipeline.made.stage import Where
    from pipeline.release import history
    from pipeline.release.verify import verify as verify_
    from pipeline.tools.cores import cores

    history.known(name)
    with view() as shown, _ollama(shown) as ollama:
        where = Where(
            threads=cores(),
            report=lambda progress: shown.report("verify", progress),
            say=lambda line: shown.say("verify", line),
        )
        version, proof = verify_(name, ollama, where)
        shown.done("verify", proof.summary)
    click.echo(f"{name} serves {version.label} as it was trained")


def _ollama(shown: View) -> Ollama:
    """The Ollama of this machine, started if need be."""
    from pipeline.tools import server
    from pipeline.tools.ollama import Ollama

    return Ollama(server.ensure(lambda line: shown.say("ollama", line)))
