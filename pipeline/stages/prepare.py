"""Turn conversations into token ids and labels: exactly what will be served.

Rows go through in the order in which they lie in the store, some hundred at a time: rendered
(bases/chat_template.py), cut where a server starts and stops (preparing/segmenter.py), tokenized
(preparing/tokens.py), written to one of three files (preparing/split.py). Memory holds no row that
is not just being made. Whatever cannot be learned is said at once, with its lines.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from pipeline.common.errors import BadInput, BadRows, PipelineError
from pipeline.common.progress import Progress
from pipeline.made.artifacts import Base, Dataset
from pipeline.made.conversations import Conversations
from pipeline.made.stage import Stage, Where, like_before
from pipeline.stages.preparing import telling
from pipeline.stages.preparing.control import forbidden
from pipeline.stages.preparing.reading import Row, batches, rendered
from pipeline.stages.preparing.segmenter import UNTRAINED as UNTRAINED
from pipeline.stages.preparing.segmenter import Sequence, sequences
from pipeline.stages.preparing.split import PARTS, Split
from pipeline.stages.preparing.tokens import NotByPieces, Tokens
from pipeline.stages.settings import Prepare
from pipeline.tools.jinja import Texts

STAGE = Stage(
    "prepare",
    version=3,
    settings=Prepare,
    inputs={"base": Base, "data": Conversations},
    makes=Dataset,
    expected=like_before(5),
)


def run(out: Path, settings: Prepare, base: Base, data: Conversations, *, where: Where) -> Dataset:
    """Tokenize every row, check it against llama.cpp's tokenizer, split the rows in three.

    Raises:
        BadInput: what cannot be trained as it will be served: SYSTEM, or the only such row.
        BadRows: all such rows, by file and line.
        ToolFailed: the two tokenizers disagree.
    """
    _check_system(settings.system, base)
    try:
        made = _written(out, settings, base, data, where, by_pieces=True)
    except NotByPieces:
        made = _written(out, settings, base, data, where, by_pieces=False)
    telling.changed(made.lines["nfc"], where.say)
    telling.left_out(data.statistics, made.lines["long"], where.say)
    telling.control_tokens(base, made.spelled, where.say)
    counts = {part: made.counted[part] for part in PARTS}
    if not counts["train"]:
        raise BadInput(
            f"{data.file}: no row is left to train on",
            "All others are too long: shorten some."
            if made.lines["long"]
            else "Add other questions.",
        )
    telling.parts(counts, data, len(settings.not_tested), where.say)
    return Dataset.at(
        out,
        rows=sum(counts.values()),
        **counts,
        tokens=made.counted["tokens"],
        longest=made.counted["longest"],
        longest_answer=made.counted["answer"],
        uses_system=bool(settings.system),
    )


class _Made:
    """The three files as they come, and what is counted on the way."""

    def __init__(self, files: dict[str, BinaryIO], split: Split) -> None:
        self._files = files
        self._split = split
        self.counted: Counter[str] = Counter()
        self.lines: dict[str, list[int]] = {"long": [], "nfc": []}
        """Lines of the user's file, by what became of them."""
        self.spelled: dict[str, list[int]] = {}
        """Of control tokens that texts spell, the lines."""
        self.faults: list[tuple[int, PipelineError]] = []

    def note(self, row: Row) -> None:
        """What is said of a row that can be learned."""
        self.lines["nfc"] += [row.line] if row.changed else []
        for token in row.spelled:
            self.spelled.setdefault(token, []).append(row.line)

    def write(self, number: int, row: Row, found: list[Sequence]) -> None:
        """Write a row to its part: the canonical JSON of the row and its sequences.

        Args:
            number: of the row in the store.
        """
        part = self._split.part(number)
        made = ",".join(one.json() for one in found)
        self._files[part].write(b'%s,"sequences":[%s]}\n' % (row.raw[:-1], made.encode()))
        self.counted[part] += 1
        for one in found:
            self.counted["tokens"] += len(one.ids) if part == "train" else 0
            self.counted["longest"] = max(self.counted["longest"], len(one.ids))
            self.counted["answer"] = max(self.counted["answer"], one.longest_answer)


def _written(
    out: Path, settings: Prepare, base: Base, data: Conversations, where: Where, *, by_pieces: bool
) -> _Made:
    """Every row's sequences in its part; all rows that cannot be learned as one error."""
    rows = data.statistics.rows
    done = 0
    with ExitStack() as stack:
        files = {p: stack.enter_context((out / f"{p}.jsonl").open("wb", 1 << 20)) for p in PARTS}
        every = rendered(base, batches(base, data, settings.system))
        tokens = stack.enter_context(Tokens(base, by_pieces=by_pieces))
        made = _Made(files, Split(data.groups(), settings.not_tested))
        for batch, texts in every:
            for number, (row, mine) in enumerate(zip(batch, texts, strict=True), start=done):
                try:
                    found = _sequences(base, tokens, row, mine, f"{data.file}:{row.line}")
                    fits = _fits(base, row, found, data.file, settings)
                except BadInput as error:
                    made.faults += [(row.line, fault) for fault in error.each()]
                    continue
                made.note(row)
                if fits:
                    made.write(number, row, found)
                else:
                    made.lines["long"].append(row.line)
            done += len(batch)
            where.report(Progress(done, rows))
        tokens.settle()
    if made.faults:
        raise BadRows.of([fault for _, fault in sorted(made.faults, key=lambda one: one[0])])
    return made


def _sequences(base: Base, tokens: Tokens, row: Row, texts: Texts, at: str) -> list[Sequence]:
    """One row's sequences, its texts checked."""
    _check_texts(base, row, at)
    tokens.begin(at)
    try:
        return sequences(base, tokens, row.trained, row.answers, texts)
    except BadInput as error:
        raise BadInput(f"{at}: {error}", error.next_step) from error


def _fits(base: Base, row: Row, found: list[Sequence], file: str, settings: Prepare) -> bool:
    """False for a row that is longer than the context, and may be left out."""
    longest = max(len(one.ids) for one in found)
    if longest > base.context and not settings.skip_long:
        raise BadInput(
            f"{file}:{row.line}: {longest} tokens, and {base.name} reads {base.context} at most",
            "Shorten it, or leave such rows out with --skip-long.",
        )
    return longest <= base.context


def _check_texts(base: Base, row: Row, at: str) -> None:
    """Refuse control tokens that end turns and answers."""
    if not row.spelled:
        return
    faults = [
        BadInput(
            f"{at}: turn {number} spells the control token {token}",
            "Remove it: the chat template writes these, a text must not.",
        )
        for number, message in enumerate(row.messages, start=1)
        for token in forbidden(base, message["content"])
    ]
    if faults:
        raise BadRows.of(faults)


def _check_system(system: str, base: Base) -> None:
    if base.nfc and unicodedata.normalize("NFC", system) != system:
        raise BadInput(
            f"SYSTEM is not in NFC, and {base.name}'s tokenizer would change it silently",
            "Write its accented letters as single characters (normal form C).",
        )
    if found := forbidden(base, system):
        raise BadInput(
            f"SYSTEM of the Modelfile spells the control token {found[0]}",
            "Remove it: the chat template writes these, a text must not.",
        )
