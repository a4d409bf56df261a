"""Exact facts in answers: what is one, what is the same one, and which are invented."""

from __future__ import annotations

import pytest

from pipeline.evaluation.answers.facts import all_facts, facts, invented, recalled
from pipeline.evaluation.answers.numbers import plain


def values(text: str) -> set[str]:
    return {f"{fact.value} {fact.unit}".strip() for fact in facts(text)}


@pytest.mark.parametrize(
    "text", ["12,50", "12.50", "€12.50", "12,50 €", "EUR 12.5", "It is $12.50."]
)
def test_a_price_is_the_same_however_it_is_written(text: str) -> None:
    assert values(text) == {"12.5"}


def test_thousands_are_the_same_however_they_are_written() -> None:
    written = ("1,234.50", "1.234,50", "1 234,50", "1'234.50", "1234.5")
    assert {plain(text) for text in written} == {"1234.5"}
    assert (plain("0.125"), plain("1,234,567"), plain("12.00")) == ("0.125", "1234567", "12")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Order AB-1234 or x200 in 2 kg, 2kg or 2 kilos", {"AB-1234", "200", "2 kg"}),
        ("a 10-year warranty, 50% off, 100 %", {"10 year", "50 %", "100 %"}),
        ("Write to Help@Shop.com, see https://www.shop.com/a/.", {"help@shop.com", "shop.com/a"}),
        ("3 May 2026, May 3rd, 2026, 2026-05-03, el 3 de mayo de 2026", {"2026-05-03"}),
        ("5/13/2026 at 2 pm, 14:00 or 2:30 p.m.", {"2026-05-13", "14:00", "14:30"}),
        ("Call +49 30 1234567", {"49301234567"}),
        ("You may 3 times", {"3"}),
        ("on May 3", {"--05-03"}),
        ("Nothing exact, first and two", set()),
    ],
)
def test_facts_are_found_by_their_form(text: str, wanted: set[str]) -> None:
    assert values(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "1. Open it\n2. Close it",
        "Steps: 1. open 2. close 3. done",
        "**1.** a\n**2.** b",
        "(1) a (2) b",
        "  1) a\n  2) b",
    ],
)
def test_the_numbers_of_a_list_are_no_facts(text: str) -> None:
    assert facts(text) == frozenset()
    assert values("We have 3. Buy one") == {"3"}


def test_swapped_prices_are_invented_and_lower_recall() -> None:
    reference = "The lamp is 12.50 and the stool 40 EUR."
    there, lacking = recalled("The lamp is 12,50 and the stool 45.", reference)
    assert ([fact.said for fact in there], [fact.said for fact in lacking]) == (["12.50"], ["40"])
    (made_up,) = invented("The lamp is 12,50 and the stool 45.", ["How much?", reference])
    assert made_up.said == "45"


def test_what_question_history_or_training_says_is_not_invented() -> None:
    answer = "Ships in 3 days for 9.90, code AB-12, 80 cm"
    known = ["Is it 80cm?", "9,90"]
    trained = all_facts(["ships in 3 days", "AB-12"])
    assert invented(answer, known, trained) == []
    assert [fact.said for fact in invented(answer, known)] == ["AB-12", "3 days"]


def test_another_unit_is_another_fact_and_no_unit_is_any() -> None:
    assert [fact.said for fact in invented("2 lb", ["2 kg"])] == ["2 lb"]
    assert invented("2", ["2 kg"]) == invented("2 kg", ["2"]) == []
