"""Which rows are trained, which choose the checkpoint, which are kept for the proof.

Groups of rows (preparing/groups.py) are taken in the order of their hashes: the first are tested,
the next ones validate, all others are trained. Where rows are added, those in front are pushed
back, from the test to the validation and from there to the training. What an earlier version
trained is never tested.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pipeline.stages.preparing.groups import NAME, TRAINED
from pipeline.stages.preparing.sizes import tested, validated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARTS = ("train", "validation", "test")


class Split:
    """The parts of one file's rows."""

    def __init__(self, keys: NDArray[np.uint64], trained: Collection[str] = ()) -> None:
        """Decide for all rows.

        Args:
            keys: by row, [n, 2]: the key of its group, and its name (`Groups.keys`).
            trained: names of rows that are not to be tested, each 12 hex digits.
        """
        import numpy as np

        groups, of_row, sizes = np.unique(keys[:, 0], return_inverse=True, return_counts=True)
        known = np.array([int(name, 16) for name in trained], np.uint64)
        seen = np.isin(keys[:, 1], known)
        apart = np.zeros(len(groups), bool)
        apart[of_row[seen]] = True
        to_test, to_validate = tested(len(keys)), validated(len(keys))
        parts = np.zeros(len(groups), np.uint8)  # numbers of PARTS
        reached = np.zeros(len(groups), bool)
        for group, size in enumerate(sizes.tolist()):
            if groups[group] == TRAINED or (to_test <= 0 and to_validate <= 0):
                break
            if to_test > 0 and not apart[group]:
                parts[group], to_test = 2, to_test - size
            else:
                reached[group] = to_test > 0
                if to_validate > 0:
                    parts[group], to_validate = 1, to_validate - size
        self._parts: bytes = parts[of_row].tobytes()
        held = keys[seen & reached[of_row], 1]
        self.not_tested: tuple[str, ...] = tuple(sorted(f"{row:0{NAME}x}" for row in held.tolist()))
        """Names of those rows of `trained` without which the parts would be others."""

    def part(self, row: int) -> str:
        """train, validation or test, of a row by its number in the store."""
        return PARTS[self._parts[row]]

    def counts(self) -> dict[str, int]:
        """How many rows each part has."""
        return {part: self._parts.count(number) for number, part in enumerate(PARTS)}
