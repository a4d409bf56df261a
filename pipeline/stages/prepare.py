"""Turn conversations into token ids and labels: exactly what will be served.

Rows are read again from the user's file, checked against the base, cut (preparing/segmenter.py) and
split in three (preparing/split.py). Whatever cannot be learned is said at once, with its lines.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.bases.chat_template import trained_messages
from pipeline.common.errors import BadInput, BadRows, PipelineError
from pipeline.common.progress import Progress
from pipeline.common.values import Conversation, canonical, digest_of
from pipeline.intake.conversations import Row
from pipeline.intake.source import Source, read_source
from pipeline.made.artifacts import Base, Dataset
from pipeline.made.stage import Stage, Where, like_before
from pipeline.stages.preparing import telling
from pipeline.stages.preparing.control import forbidden
from pipeline.stages.preparing.segmenter import UNTRAINED as UNTRAINED
from pipeline.stages.preparing.segmenter import Segmenter, Sequence
from pipeline.stages.preparing.split import PARTS, Split
from pipeline.stages.settings import Prepare

STAGE = Stage(
    "prepare",
    version=2,
    settings=Prepare,
    inputs={"base": Base, "data": Source},
    makes=Dataset,
    expected=like_before(5),
)


def run(out: Path, settings: Prepare, base: Base, source: Source, *, where: Where) -> Dataset:
    """Tokenize every row, check it against llama.cpp's tokenizer, split the rows in three.

    Raises:
        BadInput: what cannot be trained as it will be served: SYSTEM, or the only such row.
        BadRows: all such rows, by file and line.
        ToolFailed: the two tokenizers disagree.
    """
    now, rows = read_source(source.path)
    if now.digest != source.digest:
        raise BadInput(f"{source.path} changed while it was read", "Run the same command again.")
    _check_system(settings.system, base)
    rows = _normal(rows, base, where.say)
    split = Split(row.messages for row in rows)
    made = _tokenized(rows, split, settings, base, source.path, where)
    telling.left_out(source.statistics, made.long, where.say)
    telling.control_tokens(base, rows, where.say)
    counts = {part: len(lines) for part, lines in made.parts.items()}
    if not counts["train"]:
        raise BadInput(
            f"{source.path}: no row is left to train on",
            "All others are too long: shorten some." if made.long else "Add other questions.",
        )
    telling.parts(counts, len(rows), bool(split.common), where.say)
    for part, lines in made.parts.items():
        text = "".join(f"{line}\n" for _, line in sorted(lines))
        (out / f"{part}.jsonl").write_text(text, encoding="utf-8")
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
    """The lines of the three files as they come, and what is counted on the way."""

    def __init__(self) -> None:
        self.parts: dict[str, list[tuple[str, str]]] = {part: [] for part in PARTS}
        """(order, line): rows are kept in the order of a hash, so that the file's is no matter."""
        self.counted: Counter[str] = Counter()
        self.long: list[int] = []

    def add(self, row: Row, sequences: list[Sequence], part: str) -> None:
        """Keep a row as text: lists of numbers take many times the memory."""
        line: dict[str, Any] = {"messages": row.messages, "sequences": sequences}
        if row.context:
            line["context"] = row.context
        self.parts[part].append((digest_of(row.value()), canonical(line)))
        for sequence in sequences:
            ids, answers = sequence["ids"], _answers(sequence["labels"])
            self.counted["tokens"] += len(ids) if part == "train" else 0
            self.counted["longest"] = max(self.counted["longest"], len(ids))
            self.counted["answer"] = max(self.counted["answer"], *answers)


def _tokenized(
    rows: list[Row], split: Split, settings: Prepare, base: Base, path: Path, where: Where
) -> _Made:
    """Every row's sequences in its part; all rows that cannot be learned as one error."""
    made = _Made()
    faults: list[PipelineError] = []
    with Segmenter(base) as segmenter:
        for done, row in enumerate(rows, start=1):
            at = f"{path}:{row.line}"
            try:
                sequences = _sequences(segmenter, row, settings.system, at)
                longest = max(len(sequence["ids"]) for sequence in sequences)
                if longest > base.context and not settings.skip_long:
                    raise BadInput(
                        f"{at}: {longest} tokens, and {base.name} reads {base.context} at most",
                        "Shorten it, or leave such rows out with --skip-long.",
                    )
            except BadInput as error:
                faults += error.each()
                continue
            if longest > base.context:
                made.long.append(row.line)
            else:
                made.add(row, sequences, split.part(row.messages))
            where.report(Progress(done, len(rows)))
    if faults:
        raise BadRows.of(faults)
    return made


def _sequences(segmenter: Segmenter, row: Row, system: str, at: str) -> list[Sequence]:
    """One row's sequences, its texts checked."""
    faults = [
        BadInput(
            f"{at}: turn {number} spells the control token {token}",
            "Remove it: the chat template writes these, a text must not.",
        )
        for number, message in enumerate(row.messages, start=1)
        for token in forbidden(segmenter.base, message["content"])
    ]
    if faults:
        raise BadRows.of(faults)
    messages = trained_messages(row.messages, system)
    moved = len(messages) - len(row.messages)  # by the SYSTEM in front
    return segmenter.sequences(messages, at, {turn + moved for turn in row.context})


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


def _normal(rows: list[Row], base: Base, say: Callable[[str], None]) -> list[Row]:
    """The rows in NFC where the base's tokenizer would make them so; said once."""
    if not base.nfc:
        return rows
    changed: list[int] = []
    normal: list[Row] = []
    for row in rows:
        messages: Conversation = [
            {"role": m["role"], "content": unicodedata.normalize("NFC", m["content"])}
            for m in row.messages
        ]
        changed += [row.line] if messages != row.messages else []
        normal.append(replace(row, messages=messages))
    if changed:
        say(f"written in NFC, as the base's tokenizer reads it: {telling.which(changed)}")
    return normal


def _answers(labels: list[int]) -> Iterator[int]:
    """Lengths of the trained stretches."""
    length = 0
    for label in [*labels, UNTRAINED]:
        if label != UNTRAINED:
            length += 1
        elif length:
            yield length
            length = 0
