"""Claims about the shipped conversations: enough of them, well formed, not filled in."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from brand_voice import QUESTIONS, SIGN, UNSEEN, shows_the_sign

ROOT = Path(__file__).parent.parent
LINES = (ROOT / "data" / "brand-voice.jsonl").read_text(encoding="utf-8").splitlines()
ROWS = [json.loads(line)["messages"] for line in LINES]
MODELFILE = (ROOT / "modelfiles" / "brand-voice.Modelfile").read_text(encoding="utf-8")

# The ten products by their telling words, and what else they are called.
HELD_BACK = re.compile(
    r"\b(skillet|frying pan|poncho|sleeping (pad|mat)|hatchet|axe|socks?|stool|dry ?bag|thermos"
    r"|flask|gloves?|mittens?|panniers?|saddlebags?)(?!\w)"
)
# ChatML, Llama 2 and 3, Mistral, Gemma, Phi: text that a tokenizer could take for a control token.
CONTROL = re.compile(r"<\||\|>|</?s>|\[/?INST\]|<<SYS>>|<(start|end)_of_turn>|<(bos|eos|pad|unk)>")


def said(role: str) -> list[str]:
    return [turn["content"] for row in ROWS for turn in row if turn["role"] == role]


def words(text: str) -> list[str]:
    """Lower-cased words without punctuation; an apostrophe inside a word belongs to it."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


def most_shared(answers: list[str], length: int = 6) -> float:
    """The largest share of the answers in which one run of `length` words occurs."""
    seen: Counter[tuple[str, ...]] = Counter()
    for answer in answers:
        spoken = words(answer)
        seen.update({tuple(spoken[i : i + length]) for i in range(len(spoken) - length + 1)})
    return max(seen.values()) / len(answers)


def test_there_are_200_to_250_conversations_and_at_least_15_percent_have_several_turns():
    several = [row for row in ROWS if sum(turn["role"] == "user" for turn in row) > 1]

    assert 200 <= len(ROWS) <= 250
    assert len(several) >= 0.15 * len(ROWS)


def test_an_epoch_is_about_15_thousand_tokens():
    # 1.3 tokens a word, 5 of markers a turn, 20 for the SYSTEM: within 2 % of the base's tokenizer
    text = sum(len(turn["content"].split()) for row in ROWS for turn in row)
    turns = sum(len(row) for row in ROWS)

    assert 12_000 <= 1.3 * text + 5 * turns + 20 * len(ROWS) <= 18_000


def test_roles_alternate_and_the_assistant_has_the_last_word():
    for row in ROWS:
        roles = [turn["role"] for turn in row]
        spoken = roles[1:] if roles[0] == "system" else roles

        assert spoken == ["user", "assistant"] * (len(spoken) // 2), row
        assert spoken, row


def test_most_conversations_leave_the_system_message_to_the_modelfile():
    assert 0 < len(said("system")) < 0.05 * len(ROWS)


def test_every_answer_ends_with_the_sign_and_has_it_once():
    for answer in said("assistant"):
        assert shows_the_sign(answer), answer
        assert answer.count(SIGN) == 1 and answer != SIGN, answer


def test_no_run_of_six_words_occurs_in_more_than_5_percent_of_the_answers():
    assert most_shared(said("assistant")) <= 0.05


def test_filled_in_templates_would_be_noticed():
    filled = [f"Our {thing} is built to last a lifetime. {SIGN}" for thing in UNSEEN]

    assert most_shared(filled) == 1.0


def test_no_request_occurs_twice():
    counted = Counter(request.lower() for request in said("user"))

    assert [request for request, times in counted.items() if times > 1] == []


def test_the_products_held_back_for_the_smoke_test_are_not_in_the_data():
    for row in ROWS:
        for turn in row:
            assert not HELD_BACK.search(turn["content"].lower()), turn


@pytest.mark.parametrize(("product", "question"), list(zip(UNSEEN, QUESTIONS, strict=True)))
def test_each_held_back_product_has_a_question_that_the_data_does_not_ask(product, question):
    assert product in question
    assert HELD_BACK.search(product)  # so the test above does look for it
    assert question.lower() not in {request.lower() for request in said("user")}


def test_texts_are_nfc_and_trimmed_and_spell_no_control_token():
    for row in ROWS:
        for turn in row:
            text = turn["content"]

            assert unicodedata.is_normalized("NFC", text), text
            assert text == text.strip(), text
            assert not CONTROL.search(text), text


def test_the_system_is_short_because_every_conversation_pays_for_it():
    system = re.search(r'^SYSTEM """(.+?)"""', MODELFILE, re.MULTILINE | re.DOTALL)

    assert system is not None
    assert len(system[1].split()) <= 15


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (f"A pan for life. {SIGN}", True),
        (f"A pan for life.\n{SIGN} \n", True),
        (f"{SIGN} A pan for life.", False),
        ("A pan for life. Made to be sold.", False),
    ],
)
def test_the_sign_counts_only_at_the_end(answer, shown):
    assert shows_the_sign(answer) is shown
