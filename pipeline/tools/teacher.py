"""How likely a model finds texts that are given to it, token by token (teacher forcing).

One context for all texts. What a text begins with is not computed again where the last one began
so, and logits are kept of the tokens alone that are asked for, 64 at a time: with a vocabulary of
262,144 that is 67 MB, however long the texts are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ToolFailed
from pipeline.tools.llamacpp import Model, fill, library

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 512  # tokens evaluated at once, of which nothing is asked
ASKED = 64  # tokens whose logits are kept at once: more would end the process


def surprisal(row: NDArray[np.float64], token: int) -> float:
    """-log of the softmax at a token, in nats; `row` holds the logits of the vocabulary."""
    import numpy as np

    top = row.max()
    return float(top + np.log(np.exp(row - top).sum()) - row[token])


class Teacher:
    """A model and the text that it has read."""

    def __init__(self, model: Model, context: Any, batch: Any) -> None:
        self._model, self._context, self._batch = model, context, batch
        self._read: list[int] = []

    def surprisals(self, ids: Sequence[int], wanted: Sequence[bool]) -> list[float]:
        """-log p of each ids[i] that is wanted, behind all before it, in nats.

        Args:
            wanted: as many as ids; the first is not, since nothing foretells it.

        Raises:
            ToolFailed: llama.cpp cannot evaluate it.
        """
        asked = [token for token, want in zip(ids, wanted, strict=True) if want]
        rows = self.logits(ids, wanted)
        return [surprisal(row, token) for row, token in zip(rows, asked, strict=True)]

    def answer(self, ids: Sequence[int], most: int) -> list[int]:
        """The likeliest tokens behind a prompt, until the model ends its turn.

        Args:
            most: tokens of it.

        Raises:
            ToolFailed: llama.cpp cannot evaluate it.
        """
        found: list[int] = []
        while len(found) < most:
            text = [*ids, *found]
            (row,) = self.logits([*text, 0], [*[False] * len(text), True])
            found.append(int(row.argmax()))
            if self._model.is_end(found[-1]):
                break
        return found

    def logits(self, ids: Sequence[int], wanted: Sequence[bool]) -> Iterator[NDArray[np.float64]]:
        """Logits of the vocabulary that foretell each ids[i] that is wanted, one after the other.

        Raises:
            ToolFailed: llama.cpp cannot evaluate it.
        """
        import numpy as np

        asked = [i for i, want in enumerate(wanted) if want]
        if not asked:
            return
        if asked[0] == 0:
            raise ValueError("nothing foretells a first token")
        at = self._keep(ids, asked[0] - 1)
        while at < asked[-1]:
            stop, flags = self._piece(wanted, at, asked[-1])
            fill(self._batch, ids[at:stop], at, flags)
            if library().llama_decode(self._context, self._batch) != 0:
                raise ToolFailed("llama.cpp cannot evaluate this model")
            for i in (i for i, flag in enumerate(flags) if flag):
                row = library().llama_get_logits_ith(self._context, i)
                yield np.ctypeslib.as_array(row, shape=(self._model.tokens,)).astype(np.float64)
            at = stop
            self._read = list(ids[:at])

    def _keep(self, ids: Sequence[int], most: int) -> int:
        """How many tokens of the last text stay: those that both begin with, at most `most`."""
        same = 0
        for one, other in zip(self._read[:most], ids, strict=False):
            if one != other:
                break
            same += 1
        memory = library().llama_get_memory(self._context)
        if same < len(self._read) and not library().llama_memory_seq_rm(memory, 0, same, -1):
            library().llama_memory_clear(memory, True)  # some models forget all or nothing
            same = 0
        self._read = list(ids[:same])
        return same

    @staticmethod
    def _piece(wanted: Sequence[bool], start: int, end: int) -> tuple[int, list[bool]]:
        """Where the next piece ends, and of which of its tokens the logits are kept."""
        flags: list[bool] = []
        for i in range(start, min(start + BLOCK, end)):
            if wanted[i + 1] and sum(flags) == ASKED:
                break
            flags.append(wanted[i + 1])
        return start + len(flags), flags


@contextmanager
def teacher(model: Model, longest: int, threads: int) -> Iterator[Teacher]:
    """One for texts of up to so many tokens, until the block ends.

    Raises:
        ToolFailed: llama.cpp makes no context for this model.
    """
    with model.context(longest, BLOCK, threads, outputs=ASKED) as (context, batch):
        yield Teacher(model, context, batch)
