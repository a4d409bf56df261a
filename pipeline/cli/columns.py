"""Answers as they come: in two columns on a terminal, one below the other in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

Told = Callable[[str], None]
NARROW = 60  # characters; a terminal of fewer has no room for two columns


@contextmanager
def answers(titles: list[str], console: Console | None = None) -> Iterator[list[Told]]:
    """What each answer is told to, until the block ends.

    Args:
        titles: one or two; of answers that come one after the other.
        console: where it is drawn, by default the terminal.
    """
    if console is None and sys.stdout.isatty():
        from rich.console import Console as Terminal

        console = Terminal(highlight=False)
    if console is None or len(titles) < 2 or console.width < NARROW:
        yield [_below(title) for title in titles]
        click.echo()
    else:
        with _beside(titles, console) as told:
            yield told


@contextmanager
def _beside(titles: list[str], console: Console) -> Iterator[list[Told]]:
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    texts = [Text() for _ in titles]  # never markup: a model may write brackets

    def drawn() -> Table:
        table = Table(expand=True, show_lines=False)
        for title in titles:
            table.add_column(Text(title), ratio=1, overflow="fold")
        table.add_row(*texts)
        return table

    with Live(drawn(), console=console, vertical_overflow="visible") as live:

        def into(text: Text) -> Told:
            def told(piece: str) -> None:
                text.append(piece)
                live.update(drawn())

            return told

        yield [into(text) for text in texts]


def _below(title: str) -> Told:
    """Prints the title before the first piece."""
    begun = False

    def told(piece: str) -> None:
        nonlocal begun
        if not begun:
            click.secho(f"— {title} —", bold=True)
        begun = True
        click.echo(piece, nl=False)

    return told
