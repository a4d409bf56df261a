"""A report as one HTML file: no script, nothing from elsewhere, every text shown as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import __version__
from pipeline.common import private
from pipeline.common.errors import BadInput
from pipeline.common.values import whole
from pipeline.common.words import size
from pipeline.evaluation import words
from pipeline.evaluation.page import charts
from pipeline.evaluation.page.differences import Piece, differences
from pipeline.evaluation.page.report import Report, Row
from pipeline.evaluation.page.text import Cut, cut, number, plain, signed

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWN = 200  # rows; more belong into a file of rows
LARGEST = 1_500_000  # bytes: what a phone opens at once, and a mail carries
OPENED = 3  # rows that are unfolded from the start
MARK = '<meta name="generator" content="specialist">'
"""By which a page of ours is known."""


@dataclass(frozen=True)
class Answer:
    """What a model said, beside the reference."""

    model: str
    cut: Cut
    pieces: list[Piece] | None
    """None where so little is shared that marks would say nothing."""


def check(path: Path) -> None:
    """See that a page may be written there: before long work, and never over what is no page.

    Raises:
        BadInput: there is something else.
    """
    if path.is_dir():
        raise BadInput(f"{path} is a folder", "Name a file: --output report.html")
    if path.exists():
        with path.open("rb") as file:
            if MARK.encode() not in file.read(2000):
                raise BadInput(
                    f"{path} exists, and is no report", "Name another file, or remove it first."
                )


def write(report: Report, path: Path, *, rows: bool = True) -> Path:
    """Write the page whole or not at all, for its owner alone: the rows are customers' words."""
    private.folder(path.parent)
    with whole(path) as beside:
        beside.touch(mode=0o600)
        beside.write_text(html(report, rows=rows), encoding="utf-8")
    return path


def html(report: Report, *, rows: bool = True) -> str:
    """The page.

    Args:
        rows: show the rows, and what else is the company's alone; False for sharing.

    Returns: at most `LARGEST` bytes in UTF-8. What does not fit is left out, the better rows first,
        and said.
    """
    asked = report.rows if rows else ()
    page = _environment().get_template("page.html.jinja")
    given: dict[str, Any] = {
        "report": report,
        "with_rows": rows,
        "whiskers": charts.whiskers(report.comparisons) if report.comparisons else None,
        "ladder": charts.ladder(report.ladder) if report.ladder else None,
        "curves": charts.lines(report.curves) if report.curves else None,
        "said": {one.rival: words.sentence(one) for one in report.comparisons},
        "version": __version__,
        "noted": any(row.remarks for row in asked),
        "answered": any(row.answers for row in asked),
        "mark": MARK,
    }
    room = LARGEST - len(page.render(**given, rows=[], left=len(asked)).encode())
    shown = list(_fitting(asked[:SHOWN], room, report))
    return page.render(**given, rows=shown, left=len(asked) - len(shown))


def _fitting(rows: Sequence[Row], room: int, report: Report) -> Iterator[object]:
    """Rows as HTML, as many as there is room for."""
    from markupsafe import Markup

    template = _environment().get_template("row.html.jinja")
    top = max((loss for row in rows for loss in row.losses.values()), default=0.0)
    for index, row in enumerate(rows):
        told = template.render(
            row=row,
            open=index < OPENED,
            own=report.specialist.name,
            losses=_losses(row, report, top),
            answers=list(_answers(row, report)),
        )
        room -= len(told.encode()) + 1
        if room < 0:
            return
        yield Markup(told)  # rendered with its texts escaped


def _losses(row: Row, report: Report, top: float) -> list[tuple[str, float, float]]:
    """By model: the loss, and how long its bar is in per cent."""
    order = [one.name for one in report.models if one.name in row.losses]
    found = [(name, row.losses[name]) for name in order]
    return [(name, x, round(100 * x / top, 1) if top > 0 else 0.0) for name, x in found]


def _answers(row: Row, report: Report) -> Iterator[Answer]:
    """The specialist's first, then those of the rivals as they are listed."""
    order = [report.specialist.name, *(one.name for one in report.rivals)]
    names = sorted(row.answers, key=lambda n: order.index(n) if n in order else len(order))
    for name in names:
        told, right = cut(row.answers[name]), cut(row.reference)
        yield Answer(name, told, differences(right.text, told.text) if told.text.strip() else None)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    made.filters |= {
        "cut": cut,
        "number": number,
        "signed": signed,
        "size": size,
        "times": _times,
        "day": lambda when: when[:10],
        "thinned": charts.thinned,
    }
    made.globals |= {"remembered": words.remembered, "drifted": words.drifted}
    return made


def _times(nats: float) -> str:
    """A difference as a ratio of probabilities: `4.9 times`."""
    ratio = math.exp(min(nats, 700.0))
    return f"{ratio:,.1f} times" if ratio < 1000 else f"{ratio:,.0f} times"
