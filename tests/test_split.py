"""Held-out rows worth the name: enough of them, none that was trained, none nearly the same."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.common.values import Conversation
from pipeline.stages.preparing import near, sizes
from pipeline.stages.preparing.groups import Groups, name
from pipeline.stages.preparing.split import PARTS, Split

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def ask(asked: str, answer: str = "We do.") -> Conversation:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def keys_of(rows: Sequence[Conversation]) -> np.ndarray:
    groups = Groups(sum(len(turn["content"]) for row in rows for turn in row))
    for row in rows:
        groups.add(row)
    return groups.keys()[0]


def parts_of(rows: Sequence[Conversation]) -> list[str]:
    split = Split(keys_of(rows))
    return [split.part(number) for number in range(len(rows))]


def together(one: Conversation, other: Conversation) -> bool:
    first, second = keys_of([one, other])[:, 0]
    return bool(first == second)


def numbered(count: int) -> list[Conversation]:
    return [ask(f"Question {n}", f"Answer {n}") for n in range(count)]


def some_text(dice: random.Random, words: int) -> str:
    return " ".join("".join(dice.choices(LETTERS, k=dice.randint(3, 8))) for _ in range(words))


# how many


@pytest.mark.parametrize(
    ("rows", "test", "validation"),
    [
        *((9, 0, 0), (10, 2, 0), (40, 10, 0), (79, 19, 0), (80, 20, 10), (100, 20, 10)),
        *((200, 20, 20), (208, 20, 20), (400, 40, 40), (2000, 200, 200), (100_000, 200, 200)),
    ],
)
def test_the_parts_have_floors_and_ceilings(rows: int, test: int, validation: int) -> None:
    assert (sizes.tested(rows), sizes.validated(rows)) == (test, validation)
    assert sizes.trained(rows) == rows - test - validation
    if rows <= 2000:
        counts = Counter(parts_of(numbered(rows)))
        assert (counts["test"], counts["validation"]) == (test, validation)


def test_a_group_that_reaches_over_the_end_of_a_part_goes_in_as_a_whole() -> None:
    rows = [ask(f"Q{n}", answer) for n in range(70) for answer in ("One", "Two", "Three")]
    counts = Counter(parts_of(rows))
    assert 21 <= counts["test"] <= 23
    assert 21 <= counts["validation"] <= 23


# what stays together


def test_another_answer_to_the_same_question_stays_in_the_same_part() -> None:
    rows = [ask(f"Q{n}", answer) for n in range(50) for answer in ("One", "Two")]
    parts = parts_of(rows)
    assert parts[::2] == parts[1::2]
    assert set(parts) == set(PARTS)


ASKED = "Could you please tell me whether the bag is back in stock soon"


@pytest.mark.parametrize(
    "other",
    [
        ASKED + "?",
        "Hello, " + ASKED.lower(),
        ASKED.replace("please ", ""),
        ASKED.replace("soon", "this week"),
        "  " + ASKED.upper().capitalize().replace(" ", "  "),
    ],
)
def test_questions_that_are_nearly_the_same_stay_together(other: str) -> None:
    assert together(ask(ASKED), ask(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "The plain bag is 29 euros, shipping is free",
            "The plain bag is 39 euros, shipping is free",
        ),
        ("Yes, we ship to Norway every week", "Yes, we ship to Sweden every week"),
        ("You get it in size XL as well", "You get it in size XS as well"),
        ("You can wash it in the machine", "You cannot wash it in the machine"),
        ("It does shrink when it is washed warm", "It doesn't shrink when it is washed warm"),
        ("You can send it back when it was worn", "You can never send it back when it was worn"),
        ("das geht so bei uns leider", "das geht so bei uns leider nicht"),
        ("wir haben davon eine im lager liegen", "wir haben davon keine im lager liegen"),
        ("lo enviamos a las islas cada semana", "no lo enviamos a las islas cada semana"),
        ("nous livrons le dimanche dans la ville", "nous ne livrons pas le dimanche dans la ville"),
    ],
)
def test_a_number_a_name_or_a_negation_that_differs_makes_another_row(one: str, other: str) -> None:
    shared = [near.shingles(["a question of some length, for both", x]) for x in (one, other)]
    union = np.union1d(*shared)
    assert len(np.intersect1d(*shared)) >= near.SAME * len(union)  # else it would prove nothing
    asked = "a question of some length, for both"
    assert not together(ask(asked + " now", one), ask(asked, other))
    assert together(ask(asked + " now", one), ask(asked, one))


def test_rows_that_share_little_stay_apart() -> None:
    dice = random.Random(1)
    rows = [ask(some_text(dice, 20), some_text(dice, 30)) for _ in range(300)]
    assert len(np.unique(keys_of(rows)[:, 0])) == 300


def test_pairs_are_found_in_a_large_file_as_in_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dice = random.Random(2)
    rows = []
    for _ in range(400):
        asked, answer = some_text(dice, 15), some_text(dice, 25)
        rows += [ask(asked, answer), ask(f"{asked} {some_text(dice, 5)}", answer)]
    small = keys_of(rows)[:, 0]
    monkeypatch.setattr(near, "EXACT_ROWS", 100)
    large = keys_of(rows)[:, 0]
    assert (small[::2] == small[1::2]).all()
    assert len(np.unique(small)) == 400
    assert (large[::2] == large[1::2]).mean() > 0.98
    assert len(np.unique(large)) >= 400


def test_rows_that_share_most_of_their_text_take_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "EXACT_WORK", 1000)
    dice = random.Random(3)
    before = some_text(dice, 10)
    rows = [ask(f"{before} {some_text(dice, 20)}") for _ in range(50)]
    assert len(np.unique(keys_of(rows)[:, 0])) == 50


# very many rows that are the same


def test_only_the_rows_of_a_very_common_question_are_split() -> None:
    few = [ask("Often asked", f"Answer {n}") for n in range(4)]
    many = [ask("Often asked", f"Answer {n}") for n in range(40)]
    assert len(set(parts_of([*numbered(80), *few])[80:])) == 1
    assert len(set(parts_of([*numbered(80), *many])[80:])) == 3


def test_what_is_nearly_the_same_in_very_many_rows_is_split() -> None:
    dice = random.Random(4)
    asked = some_text(dice, 40)
    rows = [ask(f"{asked} {some_text(dice, 2)}") for _ in range(60)]
    assert Counter(parts_of(rows)) == {"test": 15, "train": 45}


def test_copies_of_one_row_are_trained() -> None:
    assert set(parts_of([ask("Q", "A")] * 50)) == {"train"}
    for n in range(30):
        assert "train" in parts_of([ask(f"Q{n}", "A")] * 12)


# as a file grows


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = numbered(90)
    assert parts_of(rows) == parts_of(rows[::-1])[::-1]


def random_keys(dice: np.random.Generator, rows: int) -> np.ndarray:
    """As of so many rows that are nothing alike."""
    names = dice.permutation(rows).astype(np.uint64)
    return np.stack([dice.integers(0, 2**63, rows, np.uint64), names], 1)


def in_part(keys: np.ndarray, split: Split, part: str) -> set[str]:
    return {f"{keys[i, 1]:012x}" for i in range(len(keys)) if split.part(i) == part}


@pytest.mark.parametrize("seed", range(5))
def test_from_80_rows_on_no_trained_row_is_tested_as_a_file_grows(seed: int) -> None:
    keys = random_keys(np.random.default_rng(seed), 2200)
    ever: set[str] = set()
    for rows in [*range(80, 500), *range(500, 2201, 10)]:
        split = Split(keys[:rows])
        assert not ever & in_part(keys[:rows], split, "test")
        ever |= in_part(keys[:rows], split, "train")


@pytest.mark.parametrize("seed", range(5))
def test_of_any_size_what_a_version_trained_is_never_tested(seed: int) -> None:
    """Each size is released: the floors are kept where as many rows were never trained."""
    keys = random_keys(np.random.default_rng(seed), 300)
    ever: set[str] = set()
    for rows in range(1, 301):
        split = Split(keys[:rows], ever)
        counts = split.counts()
        assert not ever & in_part(keys[:rows], split, "test")
        assert counts["test"] == min(sizes.tested(rows), rows - len(ever))
        again = Split(keys[:rows], split.not_tested)
        assert (again.counts(), again.not_tested) == (counts, split.not_tested)
        ever |= in_part(keys[:rows], split, "train")


def test_nobody_needs_the_list_where_the_parts_are_the_same_without() -> None:
    rows = numbered(200)
    keys = keys_of(rows)
    ever = in_part(keys, Split(keys), "train")
    assert Split(keys, ever).not_tested == ()


def test_what_is_nearly_a_trained_row_is_not_tested_either() -> None:
    rows = [*numbered(60), ask("Often asked", "One"), ask("Often asked", "Two")]
    keys = keys_of(rows)
    keys[60:, 0] = 0  # in front of all others
    assert Split(keys).part(61) == "test"
    split = Split(keys, [name(rows[60])])
    assert (split.part(60), split.part(61)) == ("train", "train")
    assert split.counts()["test"] == sizes.tested(62)


def test_a_row_is_known_by_one_name_in_either_normal_form() -> None:
    assert name(ask("Cafe\u0301?")) == name(ask("Caf\u00e9?"))
    assert together(ask("Cafe\u0301?"), ask("Caf\u00e9?", "Another answer"))
