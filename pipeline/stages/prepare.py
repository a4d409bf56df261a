"""Turn conversations into token ids and labels: exactly what will be served.

For every assistant turn k, the prompt is what a server tokenizes when it is asked for that answer:
BOS + tokens(render(messages[:k], generate)). The answer's tokens follow, then the end-of-turn.
As long as the next prompt begins with the ids so far, the sequence goes on; where it does not (a
template that rewrites former turns, as thinking templates do), the next answer gets a sequence of
its own. So no token is trained behind a prompt that serving would tokenize differently.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from pipeline.artifacts import Base, Dataset
from pipeline.conversations import Row
from pipeline.errors import BadInput, BadRows, PipelineError, ToolFailed
from pipeline.settings import Prepare
from pipeline.source import Source, read_source
from pipeline.stage import Progress, Stage, Where
from pipeline.stages.preparing import telling
from pipeline.stages.preparing.control import forbidden, spelled
from pipeline.stages.preparing.split import PARTS, Split
from pipeline.template import render, trained_messages
from pipeline.tools import llamacpp
from pipeline.values import Conversation, canonical, digest_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

STAGE = Stage("prepare", version=2, makes=Dataset)

UNTRAINED = -100  # the label that torch's cross entropy leaves out


class Sequence(TypedDict):
    """Token ids and as many labels."""

    ids: list[int]
    labels: list[int]


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


class Segmenter:
    """Cuts rendered conversations where generation starts and ends. Use as a context manager."""

    def __init__(self, base: Base) -> None:
        from tokenizers import Tokenizer

        self.base = base
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(base.path / "tokenizer.json"))
        self.served = llamacpp.Model(base.vocab)

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *error: object) -> None:
        self.served.__exit__(*error)

    def sequences(
        self, messages: Conversation, at: str, unlearned: Container[int] = ()
    ) -> list[Sequence]:
        """The token ids and labels of one conversation, every assistant turn trained once.

        Args:
            unlearned: assistant turns that are not trained, but part of later prompts.

        Raises:
            BadInput: the template refuses it, or renders it so that an answer does not follow its
                prompt.
            ToolFailed: llama.cpp would tokenize a prompt differently.
        """
        made: list[Sequence] = []
        for turn, message in enumerate(messages):
            if message["role"] != "assistant" or turn in unlearned:
                continue
            prompt = self._render(messages[:turn], at, generate=True)
            answer = self._answer(
                prompt, self._render(messages[: turn + 1], at, generate=False), at
            )
            prompt_ids = self._encode(prompt, at)
            answer_ids = [*self._after(prompt, prompt_ids, answer, at), self.base.end_of_turn]
            if made and prompt_ids[: len(made[-1]["ids"])] == made[-1]["ids"]:
                sequence = made[-1]
                context = prompt_ids[len(sequence["ids"]) :]
            else:
                sequence = {"ids": [], "labels": []}
                made.append(sequence)
                context = prompt_ids
            sequence["ids"] += context + answer_ids
            sequence["labels"] += [UNTRAINED] * len(context) + answer_ids
        return made

    def _render(self, messages: Conversation, at: str, *, generate: bool) -> str:
        """As the template has it; its refusal with the place and the likely cause."""
        try:
            return render(self.base, messages, generate=generate)
        except BadInput as error:
            talk = [message["role"] for message in messages if message["role"] != "system"]
            step = error.next_step or "Take another base, or leave the row out."
            if talk[0] == "assistant":
                step = (
                    "This base wants a user's turn first: remove the assistant's opening, or take"
                    " another base."
                )
            elif any(before == after for before, after in pairwise(talk)):
                step = "This base wants the turns to alternate: join those of one speaker into one."
            raise BadInput(f"{at}: {error}", step) from error

    def _answer(self, prompt: str, whole: str, at: str) -> str:
        """What the template writes between the generation prompt and the end of the turn."""
        answer, end, _ = whole.removeprefix(prompt).partition(self.base.end_of_turn_text)
        if not whole.startswith(prompt) or not end:
            raise BadInput(
                f"{at}: {self.base.name}'s chat template does not put this answer where it is"
                " generated",
                "Remove what the template treats specially (such as thinking tags) from the text.",
            )
        return answer

    def _encode(self, text: str, at: str) -> list[int]:
        """The prompt's ids with BOS, equal in both tokenizers."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        served = self.served.tokenize(text, special=True)
        if ids != served:
            raise _disagree(text, ids, served, at)
        return ids if self.base.bos is None else [self.base.bos, *ids]

    def _after(self, prompt: str, prompt_ids: list[int], answer: str, at: str) -> list[int]:
        """The answer's ids: as in the whole text where the cut is a token border, else alone.

        Control tokens that it spells are text: a server shows those letters, and no control token.
        """
        if spelled(self.base, answer):
            return self._as_text(answer, at)
        together = self._encode(prompt + answer, at)
        if together[: len(prompt_ids)] == prompt_ids:
            return together[len(prompt_ids) :]
        ids: list[int] = self.tokenizer.encode(answer, add_special_tokens=False).ids
        return ids

    def _as_text(self, answer: str, at: str) -> list[int]:
        """The ids of an answer without any control token, equal in both tokenizers."""
        self.tokenizer.encode_special_tokens = True
        try:
            ids: list[int] = self.tokenizer.encode(answer, add_special_tokens=False).ids
        finally:
            self.tokenizer.encode_special_tokens = False
        served = self.served.tokenize(answer, special=False)
        if ids != served:
            raise _disagree(answer, ids, served, at)
        return ids


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


def _answers(labels: list[int]) -> Iterator[int]:
    """Lengths of the trained stretches."""
    length = 0
    for label in [*labels, UNTRAINED]:
        if label != UNTRAINED:
            length += 1
        elif length:
            yield length
            length = 0
