"""What `prepare` says of a file: how many rows go where, what is left out, what is changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from pipeline.made.artifacts import Base
from pipeline.made.conversations import Conversations, Statistics
from pipeline.stages.preparing.sizes import WITHOUT_VALIDATION

Say = Callable[[str], None]


def left_out(statistics: Statistics, long: Collection[int], say: Say) -> None:
    """What of the file is not learned, each kind once."""
    if unasked := statistics.unasked:
        say(f"left out, because no user asks before the assistant speaks: {which(unasked)}")
    if ends := statistics.open_ends:
        say(f"the last user turn, which nobody answers, is left out in {rows(ends)}")
    if long:
        say(f"left out as too long: {which(long)}")


def changed(lines: Collection[int], say: Say) -> None:
    """Which rows are not trained as they were written."""
    if lines:
        say(f"written in NFC, as the base's tokenizer reads it: {which(lines)}")


def control_tokens(base: Base, found: Mapping[str, Collection[int]], say: Say) -> None:
    """Which control tokens the texts spell, in which lines, and what becomes of them."""
    for token, numbers in found.items():
        say(
            f"{token} is a control token of {base.name}: text in answers, one token in prompts, in"
            f" training as in serving ({which(numbers)}); [{token.strip('<>|[]')}] is text in both"
        )


def parts(counts: dict[str, int], data: Conversations, not_tested: int, say: Say) -> None:
    """The three counts, and what the file is too small for.

    Args:
        not_tested: rows that are not tested because an earlier version trained them.
    """
    say(counted(counts))
    total = data.statistics.rows
    if not_tested:
        say(f"{rows(not_tested)} that an earlier version trained: others are tested instead")
    if data.crowded:
        say(
            f"{rows(data.crowded)} that ask the same or are nearly the same are too many to stay"
            " together: each goes by itself"
        )
    if total < WITHOUT_VALIDATION:
        say(
            f"fewer than {WITHOUT_VALIDATION} rows ({total}), too few to hold some back to choose"
            " the checkpoint by: no validation, fixed epochs"
        )
    elif not counts["validation"]:
        say("no row fell to the validation part: fixed epochs")


def counted(counts: dict[str, int]) -> str:
    """The three counts in a line."""
    return (
        f"{rows(counts['train'])} to train on, {counts['validation']} to choose the checkpoint by,"
        f" {counts['test']} kept for the proof"
    )


def rows(count: int) -> str:
    """`1 row`, `12 rows`."""
    return f"{count} row{'' if count == 1 else 's'}"


def which(numbers: Collection[int]) -> str:
    """`1 row, line 3` or `12 rows, lines 3, 5, 8 …`: the first ten."""
    first = ", ".join(map(str, sorted(numbers)[:10]))
    return (
        f"{rows(len(numbers))}, line{'' if len(numbers) == 1 else 's'} {first}"
        f"{' …' if len(numbers) > 10 else ''}"
    )
