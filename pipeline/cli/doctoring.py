"""Whether this machine, and a base, are fit: `specialist doctor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import modelfiles as with_modelfiles
from pipeline.common import places

if TYPE_CHECKING:
    from pipeline.run.checks.finding import Finding


@click.command()
@click.argument("name", required=False)
@click.option("--base", help="Another base than the Modelfile's FROM.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@with_modelfiles("Folder of NAME.Modelfile and NAME.toml (both optional).")
def doctor(name: str | None, base: str | None, as_json: bool, modelfiles: Path) -> None:
    """Look at what a run needs: this machine, its Ollama, and with NAME the base of it.

    Each line is what was looked at, the verdict, what was found, and below it what mends it. A
    line that says fail is what `make` would stop at; the exit code is 1 then. What Ollama is given
    to try is removed again; a base that Ollama has is asked for one token.

    \b
    Examples:
      specialist doctor
      specialist doctor support --base llama3.2:3b
    """
    found = []
    for finding in findings(name, base, modelfiles):
        found.append(finding)
        if not as_json:
            click.echo(told(finding))
    if as_json:
        click.echo(json.dumps([one.model_dump() for one in found], indent=1, ensure_ascii=False))
    if any(one.verdict == "fail" for one in found):
        click.get_current_context().exit(1)


def findings(name: str | None, base: str | None, modelfiles: Path) -> Iterator[Finding]:
    """What is cheap first."""
    from pipeline.run.checks import base as bases
    from pipeline.run.checks import machine, serving
    from pipeline.run.checks.finding import tried
    from pipeline.spec import spec

    yield tried("python", machine.python)
    yield tried("llama.cpp", machine.llama)
    yield from machine.variables()
    yield tried("gpu", machine.gpu)
    yield tried("store", lambda: machine.store(places.home()))
    yield tried("clock", lambda: machine.clock(places.home()))
    yield from serving.checks()
    if name or base:
        yield from bases.checks(spec.read(name or "specialist", modelfiles, base=base))


def told(finding: Finding) -> str:
    """A finding for people."""
    line = f"{finding.verdict:<4}  {finding.what:<12}  {' '.join(finding.found.split())}"
    return f"{line}\n{'':20}{finding.mend}" if finding.mend else line
