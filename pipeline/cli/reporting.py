"""`specialist report NAME`: what is known of a version, as one page to read."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import modelfiles as with_modelfiles
from pipeline.cli.versions import VERSION


@click.command()
@click.argument("name")
@click.argument("version", type=VERSION, required=False, metavar="[vN]")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write it there, not into the store.",
)
@click.option(
    "--without-rows",
    is_flag=True,
    help="Leave out the rows, SYSTEM and the places of files: a copy to share.",
)
@click.option(
    "--open",
    "opened",
    type=click.Choice(["yes", "no"]),
    default="no",
    show_default=True,
    help="Show it in the browser.",
)
@with_modelfiles()
def report(
    name: str,
    version: int | None,
    output: Path | None,
    without_rows: bool,
    opened: str,
    modelfiles: Path,
) -> None:
    """Write what is known of the specialist NAME as one HTML file, and print its path.

    It begins with the verdict, what is open and what to do next; then the rows that it was not
    trained on, the worst first; then all measures and where it comes from. The file needs no
    network and holds no script. What was measured before is not measured again.

    \b
    Examples:
      specialist report brand-voice
      specialist report brand-voice v2 --without-rows --output brand-voice.html
    """
    from pipeline.cli.measuring import measured
    from pipeline.common.errors import BadInput
    from pipeline.evaluation.page import page
    from pipeline.evaluation.page.gather import gather
    from pipeline.release import history, reports

    known = history.known(name)
    number = version or known.current.version
    found = next((each for each in known.there if each.version == number), None)
    if found is None:
        raise BadInput(f"there is no {name}:v{number}", f"See them with: specialist list {name}")
    path = output or reports.file(name, number, rows=not without_rows)
    page.check(path)
    told = gather(*measured(found, known, modelfiles))
    written = page.write(told, path, rows=not without_rows)
    if opened == "yes":
        click.launch(str(written))
    click.echo(str(written))
