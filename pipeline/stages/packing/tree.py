"""Token sequences joined where they begin alike: a text that many rows share is there once.

    probes = tree(sequences_of(data))
    probes.ids, probes.depths, probes.seen()     # one sequence for a model, with a mask

A node is a token behind all that lead to it, so two rows meet in a node exactly if they are the
same up to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from pipeline.made.artifacts import Dataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Sequence_ = tuple[Sequence[int], Sequence[int]]  # ids and labels
UNTRAINED = -100  # torch's label for what is not learned
TOKENS = 1000  # to read, about; more where few of them are trained
ENOUGH = 400  # positions behind which a trained token follows
FEW = 50  # below, more is read
MOST = 2000  # tokens to read in any case: the mask has as many rows and columns
ROOM = 1 << 28  # bytes of logits of one side, in float32


class Tree:
    """Tokens, each behind another one, and those that are judged."""

    def __init__(self, rows: int = TOKENS) -> None:
        """Begin without a text.

        Args:
            rows: after so many tokens at most is compared: each has as many logits as there are
                tokens in the vocabulary.
        """
        self.rows = rows
        self.ids: list[int] = []
        self.parents: list[int] = []
        """The node that a node continues; -1 at a start."""
        self.depths: list[int] = []
        """Position in the text."""
        self._children: dict[tuple[int, int], int] = {}
        self._trained: set[int] = set()
        self._sequences: list[Sequence_] = []

    def add(self, ids: Sequence[int], labels: Sequence[int]) -> None:
        """A sequence; labels as torch takes them, -100 where nothing is learned."""
        self._sequences.append((ids, labels))
        node = -1
        for depth, token in enumerate(ids):
            if node >= 0 and labels[depth] != UNTRAINED:
                self._trained.add(node)
            node = self._child(node, token, depth)

    def _child(self, parent: int, token: int, depth: int) -> int:
        node = self._children.setdefault((parent, token), len(self.ids))
        if node == len(self.ids):
            self.ids.append(token)
            self.parents.append(parent)
            self.depths.append(depth)
        return node

    @property
    def judged(self) -> list[int]:
        """Nodes to compare after, in order: those before a trained token, and some of the others.

        Where these are too many already, some of them, evenly.
        """
        trained = sorted(self._trained)
        if len(trained) > self.rows:
            return trained[:: -(-len(trained) // self.rows)]
        others = [node for node in range(len(self.ids)) if node not in self._trained]
        room = self.rows - len(trained)
        apart = -(-len(others) // room) if room else len(others) + 1
        return sorted([*trained, *others[::apart]])

    @property
    def held(self) -> list[Sequence_]:
        """The first sequences, about TOKENS tokens, which the proof evaluates as well.

        Trained in them is what `judged` has.
        """
        ends = accumulate(len(ids) for ids, _ in self._sequences)
        count = max(sum(end <= TOKENS for end in ends), 1)
        judged = set(self.judged)
        return [self._only(ids, labels, judged) for ids, labels in self._sequences[:count]]

    def _only(self, ids: Sequence[int], labels: Sequence[int], judged: set[int]) -> Sequence_:
        """A sequence with labels behind those nodes alone."""
        kept, node = [UNTRAINED] * len(ids), -1
        for depth, token in enumerate(ids):
            if node in judged:
                kept[depth] = labels[depth]
            node = self._children[node, token]
        return ids, kept

    def learned(self) -> list[tuple[int, int]]:
        """Of each trained token of `held` its id, and the row of `judged` that comes before it."""
        row = {node: i for i, node in enumerate(self.judged)}
        found = []
        for ids, labels in self.held:
            node = self._children[-1, ids[0]]
            for token, label in zip(ids[1:], labels[1:], strict=True):
                if label != UNTRAINED:
                    found.append((token, row[node]))
                node = self._children[node, token]
        return found

    @property
    def trained(self) -> list[bool]:
        """Of each judged node whether a trained token follows; all count where none does."""
        return [not self._trained or node in self._trained for node in self.judged]

    @property
    def full(self) -> bool:
        """True where another sequence would tell little more."""
        return (
            len(self._trained) >= ENOUGH
            or len(self.ids) >= MOST
            or (len(self.ids) >= TOKENS and self.enough)
        )

    @property
    def enough(self) -> bool:
        """True where there are enough trained tokens to judge by."""
        return len(self._trained) >= FEW

    def seen(self) -> NDArray[np.bool_]:
        """Which node (column) each node (row) has behind it, itself included."""
        import numpy as np

        found = np.eye(len(self.ids), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                found[node] |= found[parent]
        return found


def rows_of(vocabulary: int) -> int:
    """After how many tokens two models are compared: fewer where each has many logits.

    Args:
        vocabulary: tokens in it, which is rows of the embedding.
    """
    return min(TOKENS, ROOM // (4 * vocabulary))


def probes(data: Dataset, rows: int = TOKENS) -> Tree:
    """Test rows, and train rows where these have few trained tokens.

    Args:
        rows: as for `Tree`.
    """
    found = Tree(rows)
    for part in ("test", "train"):
        for row in data.each(part):
            for sequence in row["sequences"]:
                _add(found, sequence["ids"], sequence["labels"])
            if found.full:
                return found
        if found.enough:
            break
    return found


def _add(found: Tree, ids: Sequence[int], labels: Sequence[int]) -> None:
    """Add a sequence, the end of it where it is the first one and too long."""
    room = MOST - len(found.ids)
    if len(ids) <= room:
        found.add(ids, labels)
    elif not found.ids:  # else a shorter one may fit
        trained = [i for i, label in enumerate(labels) if label != UNTRAINED]
        stop = trained[-1] + 1 if trained else len(ids)
        found.add(ids[max(stop - room, 0) : stop], labels[max(stop - room, 0) : stop])
