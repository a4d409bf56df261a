"""Which conversations are nearly the same: half of their 5-grams of characters are shared.

Of up to 5,000 rows every pair is compared. Of more, 96 bytes are kept of each: the lowest 8 bits of
as many minima of hashes (MinHash: two rows agree in as many of them as they share 5-grams). Rows
that agree in three neighbouring ones are compared by all 96. The bound of a half is then blurred by
0.05: found are 7 % of the pairs that share 0.43, 73 % at 0.54, 97 % at 0.60, all from 0.67 on.

Jaccard similarity and MinHash: Broder, "On the resemblance and containment of documents", 1997;
bands: Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Labels = NDArray[np.int64]
    """Of each row the number of its group, from 0."""
    Shingles = NDArray[np.uint32]
    """Hashes of a row's 5-grams, each once, in order."""
    Sketches = NDArray[np.uint8]
    """A line of `SKETCH` bytes for each row."""

SAME = 0.5  # of the 5-grams of both, from which on rows are nearly the same
GRAM = 5  # characters
SKETCH, BAND = 96, 3  # bytes of a row, and how many of them are looked up at once
EXACT_ROWS = 5000
EXACT_CHARACTERS = 5_000_000  # some 70 bytes are held of each at the peak
EXACT_WORK = 4_000_000_000  # pairs of equal 5-grams; some ten seconds
BLOCK = 256  # rows that are compared at once with all others
_SPACE = re.compile(r"\s+")


def shingles(turns: Sequence[str]) -> Shingles:
    """Those of a conversation, whatever its capitals and blanks."""
    import numpy as np

    text = _SPACE.sub(" ", "\n".join(turns).casefold()).strip().ljust(GRAM)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    length = len(codes) - GRAM + 1
    mixed = np.zeros(length, np.uint64)
    for place in range(GRAM):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + codes[place : place + length]
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))


class Sketcher:
    """Makes 96 bytes of a row's shingles; the same in every process."""

    def __init__(self) -> None:
        import numpy as np

        dice = np.random.Generator(np.random.PCG64(5))
        self._factors = dice.integers(1, 2**63, SKETCH, np.uint64) * np.uint64(2) + np.uint64(1)
        self._added = dice.integers(0, 2**63, SKETCH, np.uint64)

    def of(self, row: Shingles) -> bytes:
        """The lowest bits of the least hash under each of 96 orders."""
        import numpy as np

        least = np.full(SKETCH, np.iinfo(np.uint64).max)
        for start in range(0, len(row), 4096):  # a long row takes no more room than a short one
            some = row[start : start + 4096].astype(np.uint64)
            mixed = (some[:, None] * self._factors + self._added) >> np.uint64(24)
            np.minimum(least, mixed.min(0), out=least)
        return least.astype(np.uint8).tobytes()


def join(labels: Labels, one: NDArray[np.int64], other: NDArray[np.int64]) -> Labels:
    """Let the groups of the rows `one` and `other` be one, pair by pair."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(one):
        return labels
    groups = int(labels.max()) + 1
    pairs = (labels[one], labels[other])
    graph = coo_array((np.ones(len(one), np.int8), pairs), shape=(groups, groups))
    merged: Labels = connected_components(graph, directed=False)[1].astype(np.int64)
    return merged[labels]


def by_pairs(labels: Labels, facts: NDArray[np.uint64], rows: Sequence[Shingles]) -> Labels | None:
    """Join what is nearly the same and has the same facts, each pair of rows compared.

    Returns:
        None where that would take minutes: many long rows that share most of their text.
    """
    import numpy as np

    order = np.argsort(facts, kind="stable")
    starts = np.flatnonzero(np.diff(facts[order], prepend=facts[order[:1]] ^ np.uint64(1)))
    alike = [some for some in np.split(order, starts[1:]) if len(some) > 1]
    work = 0
    for some in alike:
        counts = np.unique(np.concatenate([rows[i] for i in some]), return_counts=True)[1]
        work += int((counts[counts < len(some)].astype(np.int64) ** 2).sum())
    if work > EXACT_WORK:
        return None
    for some in alike:
        labels = _compared(labels, some, [rows[i] for i in some])
    return labels


def _compared(labels: Labels, which: NDArray[np.int64], rows: Sequence[Shingles]) -> Labels:
    """Join those rows that share half; 5-grams that all of them have are counted, not compared."""
    import numpy as np
    from scipy.sparse import csr_array

    lengths = np.array([len(row) for row in rows])
    _, column, counts = np.unique(np.concatenate(rows), return_inverse=True, return_counts=True)
    of_row = np.repeat(np.arange(len(rows)), lengths)
    some = (counts[column] > 1) & (counts[column] < len(rows))
    every = int((counts == len(rows)).sum())
    cells = (np.ones(int(some.sum()), np.int32), (of_row[some], column[some]))
    table = csr_array(cells, shape=(len(rows), len(counts)))
    turned = table.T.tocsr()
    for start in range(0, len(rows), BLOCK):
        shared = (table[start : start + BLOCK] @ turned).toarray() + every
        union = lengths[start : start + BLOCK, None] + lengths[None, :] - shared
        one, other = np.nonzero(shared >= SAME * union)
        labels = join(labels, which[one + start], which[other])
    return labels


def by_sketch(labels: Labels, facts: NDArray[np.uint64], sketches: Sketches) -> Labels:
    """Join what is nearly the same by its sketch and has the same facts."""
    import numpy as np

    for start in range(0, SKETCH, BAND):
        key = facts ^ _band(sketches, start) * np.uint64(0x9E3779B97F4A7C15)
        order = np.lexsort((_band(sketches, (start + BAND) % SKETCH), key))  # the likest are next
        with_next = np.flatnonzero(key[order[1:]] == key[order[:-1]])
        one, other = order[with_next], order[with_next + 1]
        new = (labels[one] != labels[other]) & (facts[one] == facts[other])
        one, other = one[new], other[new]
        agree = np.zeros(len(one), np.int16)
        for place in range(SKETCH):
            agree += sketches[one, place] == sketches[other, place]
        by_chance = 1 / 256
        near = agree >= SKETCH * (SAME + (1 - SAME) * by_chance)
        labels = join(labels, one[near], other[near])
    return labels


def _band(sketches: Sketches, start: int) -> NDArray[np.uint64]:
    import numpy as np

    band = np.zeros(len(sketches), np.uint64)
    for place in range(start, start + BAND):
        band = band << np.uint64(8) | sketches[:, place]
    return band
