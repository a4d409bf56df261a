"""Token ids that the base's tokenizer and llama.cpp agree on.

Both split a text at control tokens, then by a regular expression, and merge bytes within a split.
None of the expressions in SPLIT takes a blank that follows a visible character into the split
before it. So a text is cut there into pieces; each distinct piece is tokenized by both once,
many in one call, and its ids are remembered. Whether the cuts are splits is looked at, not
believed: a row is tokenized as a whole by both, and must give what its pieces give, where a piece
holds a character that no row looked at has held, and one row in so many anyway. DECISIONS.md has
the argument.

A vocabulary of another kind (SentencePiece, other expressions, added tokens that swallow blanks)
has all rows tokenized as a whole, by both.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from pipeline.common.errors import ToolFailed
from pipeline.made.artifacts import Base
from pipeline.stages.preparing.control import pattern
from pipeline.tools import llamacpp

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPLIT = {  # names of expressions (tokenizer.ggml.pre); a test tries the cuts on each vocabulary
    *("smollm", "gpt-2", "llama-bpe", "qwen2", "qwen35", "command-r", "falcon", "mpt", "refact"),
    "starcoder",
}
EVERY = 250  # rows; one of them is looked at as a whole
FIRST = 16  # rows that are all looked at
OFTEN = 1000  # of the first texts between control tokens: a system message is in every row
TOGETHER = 500  # new pieces; llama.cpp takes 22 µs for a call and 1 µs for a word
MOST = 200_000  # pieces remembered, about 60 MB; then it begins anew
_HEAD = re.compile(r"\S*\n(?=\S)")  # `user\n`: each question's first word is a piece alone
_WORD = re.compile(r" ?\S+")
_BLANKS = re.compile(r"\s ")  # a blank behind white space: a cut there would split a run
_CUT = re.compile(r"(?<=\S)(?= )")


class NotByPieces(Exception):
    """A cut is no split: what was made of pieces is not to be relied on."""


class Tokens:
    """Both tokenizers of a base. Use as a context manager."""

    def __init__(self, base: Base, *, by_pieces: bool = True) -> None:
        from tokenizers import Tokenizer

        self.tokenizer: Tokenizer = Tokenizer.from_file(str(base.path / "tokenizer.json"))
        self.served = llamacpp.Model(base.vocab)
        self.by_pieces = by_pieces and self._splits_first()
        self.rows = 0
        self._control = pattern(base.control)
        self._pieces = _Pieces(self, "")
        self._words = _Pieces(self, " ")  # by what stands behind the blank
        self._often: dict[str, list[int]] = {}
        self._new: dict[str, tuple[list[int], str]] = {}  # what llama.cpp has not seen; the row
        self._looked: set[str] = set()  # characters of rows that were looked at
        self._look, self._at = True, ""

    def __enter__(self) -> Tokens:
        return self

    def __exit__(self, *error: object) -> None:
        self.served.__exit__(*error)

    def begin(self, at: str) -> None:
        """A row begins; `at` is its place, for errors."""
        self._at = at
        self.rows += 1
        self._look = self.rows <= FIRST or self.rows % EVERY == 0

    def settle(self) -> None:
        """Let llama.cpp tokenize the pieces that are new, in one text.

        Raises:
            ToolFailed: it makes other ids of one.
            NotByPieces: it makes other ids of them together.
        """
        if not self._new:
            return
        text, ids = "", list[int]()
        new, self._new = self._new, {}
        for piece, (its, _) in new.items():
            between = "" if piece.startswith(" ") else "\n"
            text += between + piece
            ids += (self._pieces[between] if between else []) + its
        if self.served.tokenize(text, special=True) != ids:
            for piece, (_, self._at) in new.items():
                self.whole(piece)
            raise NotByPieces  # each is right alone

    def cut(self, prompt: str, answer: str) -> tuple[list[int], list[int]]:
        """The ids of a prompt, and of the answer behind it.

        The answer's are those of the whole text where the cut is a token border, else its own.

        Raises:
            ToolFailed: the two tokenizers disagree.
            NotByPieces: a cut is no split.
        """
        if self.by_pieces and (last := _last(self._control, prompt)):
            head, tail = self._of_pieces(prompt[:last]), prompt[last:]
            ids, together = head + self._of_pieces(tail), head + self._of_pieces(tail + answer)
            self._compare(prompt + answer, together)
        else:
            ids, together = self.ids(prompt), self.ids(prompt + answer)
        if together[: len(ids)] == ids:
            return ids, together[len(ids) :]
        self._compare(prompt, ids)
        return ids, self._alone(answer)

    def ids(self, text: str) -> list[int]:
        """The ids of a text in which control tokens are read as such.

        Raises:
            ToolFailed, NotByPieces: as for `cut`.
        """
        if not self.by_pieces:
            return self.whole(text)
        found = self._of_pieces(text)
        self._compare(text, found)
        return found

    def whole(self, text: str) -> list[int]:
        """The ids of a text as both tokenizers make them of the whole.

        Raises:
            ToolFailed: they disagree.
        """
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        served = self.served.tokenize(text, special=True)
        if ids != served:
            raise _disagree(text, ids, served, self._at)
        return ids

    def as_text(self, answer: str) -> list[int]:
        """The ids of an answer without any control token: a server shows those letters.

        Raises:
            ToolFailed: the two tokenizers disagree.
        """
        self.tokenizer.encode_special_tokens = True
        try:
            ids = self._alone(answer)
        finally:
            self.tokenizer.encode_special_tokens = False
        served = self.served.tokenize(answer, special=False)
        if ids != served:
            raise _disagree(answer, ids, served, self._at)
        return ids

    def _alone(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _of_pieces(self, text: str) -> list[int]:
        found: list[int] = []
        for segment in self._control.split(text):
            found += self._often.get(segment) or self._of_segment(segment)
        return found

    def _of_segment(self, segment: str) -> list[int]:
        """The ids of a control token, or of a text between two."""
        starts, words = cut(segment)
        found = list(chain.from_iterable(map(self._pieces.__getitem__, starts)))
        found += chain.from_iterable(map(self._words.__getitem__, words))
        if len(self._often) < OFTEN:
            self._often[segment] = found
        return found

    def _compare(self, text: str, ids: list[int]) -> None:
        """Look at a whole text, where it is its turn or it holds a new character."""
        if not self._look:
            return
        if self.whole(text) != ids or not self._are_splits(text):
            raise NotByPieces
        self._looked.update(text)

    def _are_splits(self, text: str) -> bool:
        """True if the tokenizer splits wherever this text is cut."""
        splitter = self.tokenizer.pre_tokenizer
        for segment in self._control.split(text)[::2]:
            starts = {start for _, (start, _) in splitter.pre_tokenize_str(segment)}
            head = _HEAD.match(segment)
            cuts = {cut.start() for cut in _CUT.finditer(segment)} | (
                {head.end()} if head else set()
            )
            if not cuts <= starts:
                return False
        return True

    def _piece(self, piece: str) -> list[int]:
        """The ids of a piece that was not seen before; llama.cpp's are compared at once or soon."""
        if not self._looked.issuperset(piece):
            self._look = True
        if not _WORD.fullmatch(piece):
            return self.whole(piece)
        ids = self._alone(piece)
        self._new[piece] = ids, self._at
        return ids

    def _splits_first(self) -> bool:
        """True if the expressions are known, and added tokens stand for themselves."""
        added = self.tokenizer.get_added_tokens_decoder().values()
        return (
            self.served.split_by in SPLIT
            and self.tokenizer.pre_tokenizer is not None
            and not any(t.lstrip or t.rstrip or t.single_word or " " in t.content for t in added)
        )


def cut(segment: str) -> tuple[list[str], list[str]]:
    """The pieces of a text without control tokens, in their order.

    Returns: pieces as they are; then those that stand behind a blank, without it.
    """
    starts, rest = list[str](), segment
    if head := _HEAD.match(segment):
        starts, rest = [head[0]], segment[head.end() :]
    if _BLANKS.search(rest):
        return starts + _CUT.split(rest), []
    first, *words = rest.split(" ")
    return starts + ([first] if first else []), words


class _Pieces(dict[str, list[int]]):
    """The ids of pieces, each made and compared when it is first asked for.

    Args:
        lead: what stands in front of each key.
    """

    def __init__(self, tokens: Tokens, lead: str) -> None:
        self.tokens = tokens
        self.lead = lead

    def __missing__(self, piece: str) -> list[int]:
        if len(self) >= MOST:
            self.clear()
        self[piece] = ids = self.tokens._piece(self.lead + piece)
        if len(self.tokens._new) >= TOGETHER:
            self.tokens.settle()
        return ids


def _last(control: re.Pattern[str], prompt: str) -> int:
    """Where the last control token of a prompt ends; 0 where there is none."""
    end = 0
    for found in control.finditer(prompt):
        end = found.end()
    return end


def _disagree(text: str, ours: list[int], theirs: list[int], at: str) -> ToolFailed:
    first = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    return ToolFailed(
        f"{at}: llama.cpp tokenizes this text differently from token {first} on"
        f" ({ours[first : first + 4]} here, {theirs[first : first + 4]} there): {text[:80]!r}",
        "Remove unusual characters from this row; if there are none, please report this.",
    )
