"""How a run looks in a pipe."""

import pytest

from pipeline.cli import view
from pipeline.common.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_is_told_by_the_pace_not_by_what_came_before(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = view.Plain()
    shown.start("tune")
    clock[0] = 40  # imports
    shown.report("tune", Progress(1, 92))
    clock[0] = 60
    shown.report("tune", Progress(11, 92, "loss 3.1"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["tune", "…"]
    assert lines[1:] == ["tune       12%  about 2 min 42 s left  loss 3.1"]


def test_a_stage_that_reports_often_does_not_fill_the_log(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = view.Plain()
    shown.start("release")
    for step in range(1000):
        clock[0] += 0.1
        shown.report("release", Progress(step + 1, 1000))
    assert len(capsys.readouterr().out.splitlines()) < 10


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (65, "1 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_are_for_people(seconds: float, words: str) -> None:
    assert view.duration(seconds) == words


def test_another_kind_of_work_in_a_stage_has_a_pace_of_its_own(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = view.Plain()
    shown.start("release")
    for done in (0, 100_000_000, 145_000_000):  # bytes sent
        shown.report("release", Progress(done, 145_000_000))
        clock[0] += 0.1
    for done in range(11):  # conversations, two seconds each
        shown.report("release", Progress(done, 20))
        clock[0] += 2
    (line,) = capsys.readouterr().out.splitlines()[1:]
    assert line.split() == ["release", "40%", "about", "24", "s", "left"]


def test_a_long_note_moves_nothing_else_on_a_narrow_terminal() -> None:
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    live = view.Live()
    live._bars.live.console = Console(file=out, width=80, force_terminal=True)
    live.start("tune")
    live.report("tune", Progress(3, 10, "a note that is far too long for what is left of it " * 3))
    live.done("tune", "done in 1 min")
    live.start("fetch")
    live._bars.live.console.print(live._bars.make_tasks_table(live._bars.tasks))
    rows = [line for line in out.getvalue().splitlines() if "tune" in line or "fetch" in line]
    assert len(rows) == 2
    assert all("tune   " in row or "fetch  " in row for row in rows)
