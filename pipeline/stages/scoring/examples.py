"""Rows of the training part that are shown to a base before it is asked: its best rival's prompt.

They are chosen to differ, each from those before it, and are the same for every row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.bases.chat_template import render, render_all, trained_messages
from pipeline.common.values import Conversation
from pipeline.made.artifacts import Base, Dataset
from pipeline.stages.preparing.segmenter import Sequence, beginnings, sequences
from pipeline.stages.preparing.tokens import Tokens

GRAM = 5  # characters
CANDIDATES = 400  # rows that are looked at; more differ no further
LONG = 4000  # characters of an example, at most


def chosen(base: Base, data: Dataset, most: int, room: int, tokens: Tokens) -> Conversation:
    """Turns of up to `most` rows that fit into so many tokens together; [] if none does."""
    rows = list(_candidates(data))
    found: Conversation = []
    nearest = [0.0] * len(rows)
    grams = [_grams(row) for row in rows]
    for _ in range(min(most, len(rows))):
        best = min(range(len(rows)), key=lambda i: (nearest[i], i))
        if nearest[best] >= 1.0:
            break
        more = [*found, *rows[best]]
        text = render(base, more, generate=False)
        fits = len(tokens.ids(text)) <= room
        if fits:
            found = more
        for i, gram in enumerate(grams):
            alike = len(gram & grams[best]) / max(1, len(gram | grams[best]))
            nearest[i] = max(nearest[i], 1.0 if i == best else alike if fits else 0.0)
    return found


def _candidates(data: Dataset) -> Iterator[Conversation]:
    """A question and its answer, of rows that are no more than that."""
    count = 0
    for row in data.each("train"):
        turns: Conversation = [turn for turn in row["messages"] if turn["role"] != "system"]
        roles = [turn["role"] for turn in turns]
        if roles != ["user", "assistant"] or row.get("context"):
            continue
        if sum(len(turn["content"]) for turn in turns) <= LONG:
            yield turns
            count += 1
            if count == CANDIDATES:
                return


def _grams(turns: Conversation) -> set[str]:
    text = " ".join(turn["content"].lower() for turn in turns)
    return {text[i : i + GRAM] for i in range(max(1, len(text) - GRAM + 1))}


def behind(
    base: Base, row: dict[str, Any], shown: Conversation, system: str, tokens: Tokens
) -> list[Sequence]:
    """A row's sequences, its answers behind the examples.

    Raises:
        BadInput: the template refuses such a conversation.
    """
    own: Conversation = row["messages"]
    head = own[:1] if own[0]["role"] == "system" else []
    talk = trained_messages([*head, *shown, *own[len(head) :]], system)
    moved = len(talk) - len(own)
    answers = [
        i + moved
        for i, turn in enumerate(own)
        if turn["role"] == "assistant" and i not in row.get("context", ())
    ]
    texts = render_all(base, base.template, beginnings(talk, answers))
    tokens.begin("an example")
    return sequences(base, tokens, talk, answers, [text for several in texts for text in several])
