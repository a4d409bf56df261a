"""Which models of this Ollama can be tuned: `specialist bases`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.bases.survey import Candidate

HEAD = ("MODEL", "FAMILY", "SIZE", "WEIGHTS", "16 BIT", "4 BIT", "200 ROWS", "")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def bases(as_json: bool) -> None:
    """List the models of this Ollama, and what each would mean as a base on this machine.

    16 BIT and 4 BIT are the memory to tune it (the latter on a GPU), 200 ROWS is about how long
    that many take on this CPU. The one that fits best is named first.

    \b
    Examples:
      specialist bases
      make specialist DATA=data/support.jsonl BASE=llama3.2:3b
    """
    from pipeline.bases import survey
    from pipeline.tools import device, server
    from pipeline.tools.ollama import Ollama

    with Ollama(server.ensure(lambda line: None)) as ollama:
        found = survey.survey(ollama, made_here())
    gpu = device.choose("auto").memory
    chosen = survey.best(found, gpu)
    if as_json:
        rows = [{**one.model_dump(), "best": one == chosen} for one in found]
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    click.echo(told(found, chosen))


def proposed() -> str:
    """The model of a running Ollama that fits this machine best; '' where none does or answers."""
    from pipeline.bases import survey
    from pipeline.common.errors import PipelineError
    from pipeline.tools import device, host, server
    from pipeline.tools.ollama import Ollama

    try:
        where = host.address()
        if not server.answers(where, timeout=1.0):
            return ""
        with Ollama(where) as ollama:
            found = survey.survey(ollama, made_here())
        chosen = survey.best(found, device.choose("auto").memory)
    except (PipelineError, OSError):  # it is only a proposal
        return ""
    return chosen.tag if chosen else ""


def made_here() -> Callable[[str], bool]:
    """Tells a tag that is a specialist's, or was registered to be asked beside one."""
    from pipeline.common.names import full, same, version_in
    from pipeline.release import base_beside, history

    known, _ = history.histories()
    names = [one.name for one in known]

    def is_ours(tag: str) -> bool:
        if tag.startswith(base_beside.NAMESPACE):
            return True
        return any(same(tag, full(name)) or version_in(tag, name) for name in names)

    return is_ours


def told(found: list[Candidate], chosen: Candidate | None) -> str:
    """The list for people."""
    from pipeline.cli.listing import table

    if not found:
        return "This Ollama has no models yet. Get one, for example: ollama pull llama3.2:3b"
    ordered = sorted(found, key=lambda one: one != chosen)
    lines = [table(HEAD, [_row(one, one == chosen) for one in ordered])]
    if chosen:
        lines.append(f"next:  make specialist DATA=FILE.jsonl BASE={chosen.tag}")
    else:
        lines.append("none of them can be tuned on this machine; the embedded base can")
    return "\n".join(lines)


def _row(one: Candidate, is_best: bool) -> tuple[str, ...]:
    from pipeline.common.words import duration

    if one.why_not:
        return (one.tag, "-", "-", "-", "-", "-", "-", one.why_not.partition(". ")[0])
    words = ["the best for this machine"] if is_best else []
    words += ["thinks: trained to answer at once"] if one.thinks else []
    return (
        one.tag,
        one.architecture.removesuffix("ForCausalLM"),
        f"{one.parameters / 1e9:.1f} B",
        one.weights,
        f"{one.memory / 1e9:.0f} GB",
        f"{one.memory_4bit / 1e9:.0f} GB",
        duration(one.seconds),
        "; ".join(words),
    )
