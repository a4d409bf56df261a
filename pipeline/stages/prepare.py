"""Turn conversations into token ids and labels: exactly what will be served.

For every assistant turn k, the prompt is what a server tokenizes when it is asked for that answer:
BOS + tokens(render(messages[:k], generate)). The answer's tokens follow, then the end-of-turn.
As long as the next prompt begins with the ids so far, the sequence goes on; where it does not (a
template that rewrites former turns, as thinking templates do), the next answer gets a sequence of
its own. So no token is trained behind a prompt that serving would tokenize differently.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from pipeline.artifacts import Base, Dataset
from pipeline.conversations import Row
from pipeline.errors import BadInput, ToolFailed
from pipeline.settings import WITHOUT_VALIDATION, Prepare
from pipeline.source import Source, read_source
from pipeline.stage import Progress, Stage, Where
from pipeline.template import render, trained_messages
from pipeline.tools import llamacpp
from pipeline.values import Conversation, canonical, digest_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

STAGE = Stage("prepare", version=1, makes=Dataset)

UNTRAINED = -100  # the label that torch's cross entropy leaves out
WITHOUT_TEST = 10  # rows; below, all of them are trained
PARTS = ("train", "validation", "test")


class Sequence(TypedDict):
    """Token ids and as many labels."""

    ids: list[int]
    labels: list[int]


def run(out: Path, settings: Prepare, base: Base, source: Source, *, where: Where) -> Dataset:
    """Tokenize every row, check it against llama.cpp's tokenizer, split the rows in three.

    Raises:
        BadInput: a row that cannot be trained as it will be served, by file and line.
        ToolFailed: the two tokenizers disagree.
    """
    now, rows = read_source(source.path)
    if now.digest != source.digest:
        raise BadInput(f"{source.path} changed while it was read", "Run the same command again.")
    if base.nfc and unicodedata.normalize("NFC", settings.system) != settings.system:
        raise BadInput(
            f"SYSTEM is not in NFC, and {base.name}'s tokenizer would change it silently",
            "Write its accented letters as single characters (normal form C).",
        )
    _refuse_control(settings.system, base, "SYSTEM of the Modelfile")
    parts: dict[str, list[tuple[str, str]]] = {part: [] for part in PARTS}
    counted: Counter[str] = Counter()
    long: list[int] = []
    with Segmenter(base) as segmenter:
        for done, row in enumerate(rows):
            at = f"{source.path}:{row.line}"
            messages = _checked(row, base, at, where)
            sequences = segmenter.sequences(trained_messages(messages, settings.system), at)
            longest = max(len(sequence["ids"]) for sequence in sequences)
            if longest > base.context:
                long.append(row.line)
                if not settings.skip_long:
                    raise BadInput(
                        f"{at}: {longest} tokens, and {base.name} reads {base.context} at most",
                        "Shorten it, or leave such rows out with --skip-long.",
                    )
                continue
            part = part_of(messages, len(rows))
            parts[part].append((_order(messages), _line(messages, sequences)))
            _count(counted, part, sequences)
            where.report(Progress(done + 1, len(rows)))
    if long:
        where.say(f"left out as too long: {len(long)} rows, lines {_some(long)}")
    if not parts["train"]:
        raise BadInput(
            f"{source.path}: no row is left to train on",
            "Rows with the same user turns are kept together: add other questions."
            if not long
            else "All others are too long: shorten some.",
        )
    if len(rows) >= WITHOUT_VALIDATION and not parts["validation"]:
        where.say("no row fell to the validation part: fixed epochs")
    if len(rows) < WITHOUT_VALIDATION:
        where.say(
            f"fewer than {WITHOUT_VALIDATION} rows ({len(rows)}), too few to hold some back to"
            " choose the checkpoint by: no validation, fixed epochs"
        )
    for part, lines in parts.items():
        text = "".join(f"{line}\n" for _, line in sorted(lines))
        (out / f"{part}.jsonl").write_text(text, encoding="utf-8")
    return Dataset.at(
        out,
        rows=sum(map(len, parts.values())),
        **{part: len(lines) for part, lines in parts.items()},
        tokens=counted["tokens"],
        longest=counted["longest"],
        longest_answer=counted["answer"],
        uses_system=bool(settings.system),
    )


def part_of(messages: Conversation, rows: int) -> str:
    """train, validation or test: by a hash of the user turns, so that it never depends on others.

    A tenth is for the proof and later evaluation, a tenth chooses the checkpoint. Files below 40
    rows have no validation part, below 10 no test part either.
    """
    asked = [message["content"] for message in messages if message["role"] == "user"]
    at = int(digest_of(asked)[:12], 16) / 16**12
    if at < 0.1 and rows >= WITHOUT_TEST:
        return "test"
    if 0.1 <= at < 0.2 and rows >= WITHOUT_VALIDATION:
        return "validation"
    return "train"


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

    def sequences(self, messages: Conversation, at: str) -> list[Sequence]:
        """The token ids and labels of one conversation, every assistant turn trained once.

        Raises:
            BadInput: the template renders it so that an answer does not follow its prompt.
            ToolFailed: llama.cpp would tokenize a prompt differently.
        """
        made: list[Sequence] = []
        for turn, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = render(self.base, messages[:turn], generate=True)
            answer = self._answer(
                prompt, render(self.base, messages[: turn + 1], generate=False), at
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
        """The answer's ids: as in the whole text where the cut is a token border, else alone."""
        together = self._encode(prompt + answer, at)
        if together[: len(prompt_ids)] == prompt_ids:
            return together[len(prompt_ids) :]
        ids: list[int] = self.tokenizer.encode(answer, add_special_tokens=False).ids
        return ids


def _checked(row: Row, base: Base, at: str, where: Where) -> Conversation:
    """The conversation without control tokens, in NFC where the tokenizer would make it so."""
    messages = row.messages
    for message in messages:
        _refuse_control(message["content"], base, f"{at}: the {message['role']} turn")
    if not base.nfc:
        return messages
    normal: Conversation = [
        {"role": m["role"], "content": unicodedata.normalize("NFC", m["content"])} for m in messages
    ]
    if normal != messages:
        where.say(f"{at}: written in NFC, as the base's tokenizer reads it")
    return normal


def _refuse_control(text: str, base: Base, whose: str) -> None:
    if found := _control(base.control).search(text):
        raise BadInput(
            f"{whose} spells the control token {found.group()}",
            "Remove it: the chat template writes these, a text must not.",
        )


@lru_cache(maxsize=4)
def _control(spellings: tuple[str, ...]) -> re.Pattern[str]:
    """Finds any control token's spelling; matches nothing where there are none."""
    longest_first = sorted(filter(None, spellings), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


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


def _order(messages: Conversation) -> str:
    """Rows are kept in the order of this hash: the order of the file does not matter."""
    return digest_of(messages)


def _line(messages: Conversation, sequences: Iterable[Sequence]) -> str:
    return canonical({"messages": messages, "sequences": list(sequences)})


def _count(counted: Counter[str], part: str, sequences: list[Sequence]) -> None:
    for sequence in sequences:
        counted["tokens"] += len(sequence["ids"]) if part == "train" else 0
        counted["longest"] = max(counted["longest"], len(sequence["ids"]))
        counted["answer"] = max(counted["answer"], *_answers(sequence["labels"]))


def _answers(labels: list[int]) -> Iterator[int]:
    """Lengths of the trained stretches."""
    length = 0
    for label in [*labels, UNTRAINED]:
        if label != UNTRAINED:
            length += 1
        elif length:
            yield length
            length = 0


def _some(lines: list[int]) -> str:
    return ", ".join(map(str, lines[:10])) + (" …" if len(lines) > 10 else "")
