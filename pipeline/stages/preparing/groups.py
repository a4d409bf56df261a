"""Which rows go together into a part: those that ask the same, and those nearly the same.

A group's place in the order of hashes is the highest hash of what its rows ask, so that it does
not come forward when a row is added to it. A group that holds very many rows would take them all
into one part: each of its conversations goes by itself, by a hash of all its turns.
"""

from __future__ import annotations

import json
import unicodedata
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.values import Conversation, digest_of
from pipeline.stages.preparing import near
from pipeline.stages.preparing.facts import facts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Keys = NDArray[np.uint64]

SHARE = 0.1  # of the rows may go together: as much as a part is meant to hold
FEW = 4  # rows that may always
TRAINED = 2**64 - 1  # the key of copies that are too many: never held back
NAME = 12  # hex digits by which a row is known as trained


class Groups:
    """Takes rows as they come. Keeps about 130 bytes of each, and of few ones their 5-grams."""

    def __init__(self, characters: int) -> None:
        """Begin.

        Args:
            characters: of all turns of all rows that will come.
        """
        self._asked = array("Q")
        self._said = array("Q")
        self._names = array("Q")
        self._facts = array("Q")
        self._sketches = bytearray()
        self._shingles: list[near.Shingles] | None = []
        if characters > near.EXACT_CHARACTERS:
            self._shingles = None
        self._sketcher = near.Sketcher()

    def add(self, messages: Conversation) -> None:
        """The next row."""
        normal = _normal(messages)
        turns = [turn["content"] for turn in normal if turn["role"] != "system"]
        digest = digest_of(normal)
        self._asked.append(int(_asked(normal), 16))
        self._said.append(int(digest[:16], 16))
        self._names.append(int(digest[:NAME], 16))
        self._facts.append(facts(turns))
        row = near.shingles(turns)
        self._sketches += self._sketcher.of(row)
        if self._shingles is not None:
            self._shingles.append(row)
            if len(self._shingles) > near.EXACT_ROWS:
                self._shingles = None

    def keys(self) -> tuple[Keys, int]:
        """By row, [n, 2]: the key of its group, and its name as a number; rows that were crowded.

        Equal keys stay together; a part takes the smallest. `TRAINED` is no group.
        """
        import numpy as np

        asked = np.frombuffer(self._asked, np.uint64)
        said = np.frombuffer(self._said, np.uint64)
        labels = self._labels(np.unique(asked, return_inverse=True)[1].astype(np.int64))
        sizes = np.bincount(labels)
        most = max(FEW, SHARE * len(asked))
        highest = np.zeros(len(sizes), np.uint64)
        np.maximum.at(highest, labels, asked)
        crowded = sizes[labels] > most
        keys = np.where(crowded, said, highest[labels])
        _, which, copies = np.unique(said, return_inverse=True, return_counts=True)
        keys[crowded & (copies[which] > most)] = TRAINED
        return np.stack([keys, np.frombuffer(self._names, np.uint64)], 1), int(crowded.sum())

    def _labels(self, labels: near.Labels) -> near.Labels:
        import numpy as np

        kinds = np.frombuffer(self._facts, np.uint64)
        exact = None
        if self._shingles is not None:
            exact = near.by_pairs(labels, kinds, self._shingles)
        if exact is not None:
            return exact
        sketches = np.frombuffer(self._sketches, np.uint8).reshape(-1, near.SKETCH)
        return near.by_sketch(labels, kinds, sketches)


def of_file(rows: Path, characters: int, done: Callable[[int], object]) -> tuple[Keys, int]:
    """`Groups.keys` of a file of canonical rows.

    Args:
        characters: of all its turns.
        done: told now and then how many rows were read.
    """
    groups = Groups(characters)
    with rows.open("rb") as file:
        for number, row in enumerate(file, start=1):
            groups.add(json.loads(row)["messages"])
            if number % 1000 == 0:
                done(number)
    return groups.keys()


def name(messages: Conversation) -> str:
    """12 hex digits by which a row is known as trained, in NFC or not."""
    return digest_of(_normal(messages))[:NAME]


def _asked(messages: Conversation) -> str:
    """What a row asks: the beginning of the digest of its user turns."""
    asked: list[Any] = [message["content"] for message in messages if message["role"] == "user"]
    return digest_of(asked)[:16]


def _normal(messages: Conversation) -> Conversation:
    """In NFC, as some tokenizers write it: every base splits a file in the same way."""
    if all(unicodedata.is_normalized("NFC", turn["content"]) for turn in messages):
        return messages
    return [
        {"role": turn["role"], "content": unicodedata.normalize("NFC", turn["content"])}
        for turn in messages
    ]
