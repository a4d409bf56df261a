"""Cut conversations into token ids and labels where a server starts and stops generating.

For every assistant turn k, the prompt is what a server tokenizes when it is asked for that answer:
BOS + tokens(render(messages[:k], generate)). The answer's tokens follow, then the end-of-turn.
As long as the next prompt begins with the ids so far, the sequence goes on; where it does not (a
template that rewrites former turns, as thinking templates do), the next answer gets a sequence of
its own. So no token is trained behind a prompt that serving would tokenize differently.
"""

from __future__ import annotations

from collections.abc import Container
from itertools import pairwise
from typing import TYPE_CHECKING, TypedDict

from pipeline.bases.chat_template import render
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.common.values import Conversation
from pipeline.made.artifacts import Base
from pipeline.stages.preparing.control import spelled
from pipeline.tools import llamacpp

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNTRAINED = -100  # the label that torch's cross entropy leaves out


class Sequence(TypedDict):
    """Token ids and as many labels."""

    ids: list[int]
    labels: list[int]


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
