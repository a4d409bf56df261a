"""How many rows are held back: few enough to leave a small file its rows, enough to tell from."""

from __future__ import annotations

WITHOUT_TEST = 10  # rows; below, all of them are trained
WITHOUT_VALIDATION = 80  # rows; below, so few would choose the checkpoint by chance
MOST = 200  # rows of a part


def tested(rows: int) -> int:
    """A tenth for the proof and the evaluation: 20 at least, but a quarter and 200 at most."""
    return 0 if rows < WITHOUT_TEST else min(max(20, rows // 10), rows // 4, MOST)


def validated(rows: int) -> int:
    """A tenth to choose the checkpoint by: 10 at least, but 15 % and 200 at most."""
    return 0 if rows < WITHOUT_VALIDATION else min(max(10, rows // 10), rows * 15 // 100, MOST)


def trained(rows: int) -> int:
    """What is left to train on."""
    return rows - tested(rows) - validated(rows)
