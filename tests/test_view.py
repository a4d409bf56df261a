"""How a run looks in a pipe."""

import pytest

from pipeline import view
from pipeline.stage import Progress


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
