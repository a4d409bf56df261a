"""`specialist evaluate NAME`: is it better than its base, on rows that it never saw?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import json_or_text
from pipeline.cli.options import modelfiles as with_modelfiles
from pipeline.cli.versions import VERSION

if TYPE_CHECKING:
    from pipeline.evaluation.rivals import Evaluation


@click.command()
@click.argument("name")
@click.argument("version", type=VERSION, required=False, metavar="[vN]")
@click.option(
    "--against",
    type=VERSION,
    multiple=True,
    metavar="vN",
    help="Compare with this version, too; may be given more than once.",
)
@with_modelfiles()
@json_or_text
def evaluate(
    name: str, version: int | None, against: tuple[int, ...], modelfiles: Path
) -> tuple[str, dict[str, Any]]:
    """Compare the specialist NAME with its base on rows that it was not trained on.

    Measured is how likely each finds the right answers: the loss in nats per token, less is better.
    The base is asked as it came, and with examples of your own in its prompt. Then both are asked
    everyday questions, to see what the specialist forgot and how far its voice carries. Last,
    Ollama is asked for the specialist's answers: do they end, are their facts right, do they keep
    your rules ([evaluate.rules.NAME] in NAME.toml). What was measured before is not measured again.

    \b
    Examples:
      specialist evaluate brand-voice
      specialist evaluate brand-voice v3 --against v2
    """
    from pipeline.cli.measuring import measured
    from pipeline.common.errors import BadInput
    from pipeline.release import history

    known = history.known(name)
    there = {each.version: each for each in known.there}
    wanted = [version or known.current.version, *against]
    if missing := [number for number in wanted if number not in there]:
        raise BadInput(
            f"there is no {name}:v{missing[0]}", f"See them with: specialist list {name}"
        )
    found, *others = (there[number] for number in wanted)
    made, _ = measured(found, known, modelfiles, others)
    return text(made), value(made)


def text(made: Evaluation) -> str:
    """For people."""
    from pipeline.evaluation.words import answers, drifted, remembered, sentence, worn

    rows = len(made.specialist.rows)
    every = sorted([*made.rivals, made.specialist], key=lambda one: -one.loss)
    wide = max(len(one.name) for one in every)
    lines = [
        f"{made.version.tag} on {rows} row{'' if rows == 1 else 's'} that it was not trained on",
        "",
        f"  {'':<{wide}}   LOSS  WORDS   ENDS   (nats per token)",
        *(
            f"  {one.name:<{wide}}  {one.loss:5.2f}  {one.words:5.2f}  {one.ends:5.2f}"
            for one in every
        ),
        "",
        *(sentence(each) for each in made.comparisons),
        *([remembered(made.memory, made.version.tag)] if made.memory else []),
        *([drifted(made.drift, made.version.tag)] if made.drift else []),
        *(answers(made.answers) if made.answers else []),
        *([told] if (told := worn(made.candidates)) else []),
    ]
    return "\n".join(lines)


def value(made: Evaluation) -> dict[str, Any]:
    """For programs: all rows too."""
    from dataclasses import asdict

    every = [made.specialist, *made.rivals]
    return {
        "name": made.version.name,
        "version": made.version.version,
        "candidates": made.candidates,
        "models": [{**asdict(one), "loss": one.loss} for one in every],
        "comparisons": [{**asdict(one), "verdict": one.verdict} for one in made.comparisons],
        "answers": made.answers and asdict(made.answers),
        "drift": made.drift and {**asdict(made.drift), "far": made.drift.far},
        "memory": made.memory and {**asdict(made.memory), "forgot": made.memory.forgot},
    }
