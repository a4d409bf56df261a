"""Cut conversations into token ids and labels where a server starts and stops generating.

For every assistant turn k, the prompt is what a server tokenizes when it is asked for that answer:
BOS + tokens(render(messages[:k], generate)). The answer's tokens follow, then the end-of-turn.
The prompt shows former answers as people send them back, without their thoughts.
As long as the next prompt begins with the ids so far, the sequence goes on; where it does not (a
template that rewrites former turns, as thinking templates do), the next answer gets a sequence of
its own. So no token is trained behind a prompt that serving would tokenize differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from pipeline.bases.asked import Asked
from pipeline.bases.chat_template import render
from pipeline.common.errors import BadInput
from pipeline.common.thoughts import behind, parted, spoken
from pipeline.common.values import Conversation
from pipeline.made.artifacts import Base
from pipeline.stages.preparing.control import spelled
from pipeline.stages.preparing.tokens import Tokens
from pipeline.tools.jinja import Beginnings, Texts

UNTRAINED = -100  # the label that torch's cross entropy leaves out
_UNTRAINED = f"{UNTRAINED},"


@dataclass
class Sequence:
    """Token ids, and which of them are trained."""

    ids: list[int] = field(default_factory=list)
    answers: list[tuple[int, int]] = field(default_factory=list)
    """First and behind the last index of each trained stretch."""

    @property
    def longest_answer(self) -> int:
        """Tokens."""
        return max(end - start for start, end in self.answers)

    def json(self) -> str:
        """{"ids", "labels"} as canonical JSON; a label is the id, or UNTRAINED."""
        labels, done = "", 0
        for start, end in self.answers:
            labels += _UNTRAINED * (start - done) + _numbers(self.ids[start:end]) + ","
            done = end
        return f'{{"ids":[{_numbers(self.ids)}],"labels":[{labels[:-1]}]}}'


def _numbers(values: list[int]) -> str:
    """`1,2,3`: a list's own text is made faster than it is joined."""
    return str(values)[1:-1].replace(" ", "")


def beginnings(messages: Conversation, answers: list[int]) -> list[Beginnings]:
    """What is to be rendered to cut a conversation: of each answer its prompt, and the whole.

    Args:
        answers: indices of the turns that are trained.
    """
    wanted = [((turn, True), (turn + 1, False)) for turn in answers]
    if (heard := spoken(messages)) == messages:
        return [(messages, [one for pair in wanted for one in pair])]
    return [
        ([*heard[:turn], messages[turn]], pair) for turn, pair in zip(answers, wanted, strict=True)
    ]


def sequences(
    base: Base, tokens: Tokens, messages: Conversation, answers: list[int], texts: Texts
) -> list[Sequence]:
    """The token ids of one conversation, each of the answers trained once.

    Args:
        texts: what the `beginnings` of these answers were rendered to.

    Raises:
        BadInput: the template refuses the conversation, or renders it so that an answer does not
            follow its prompt.
        ToolFailed: llama.cpp would tokenize a prompt differently.
        NotByPieces: as for `Tokens`.
    """
    made: list[Sequence] = []
    pairs = _pairs(messages, answers, texts)
    for turn, (prompt, whole) in zip(answers, pairs, strict=True):
        answer = _answer(base, prompt, whole, messages[turn]["content"])
        if spelled(base, answer):  # a server shows those letters, and no control token
            ids, answer_ids = tokens.ids(prompt), tokens.as_text(answer)
        else:
            ids, answer_ids = tokens.cut(prompt, answer)
        prompt_ids = ids if base.bos is None else [base.bos, *ids]
        answer_ids = [*answer_ids, base.end_of_turn]
        if not made or prompt_ids[: len(made[-1].ids)] != made[-1].ids:
            made.append(Sequence())
        sequence, start = made[-1], len(prompt_ids)
        sequence.ids += prompt_ids[len(sequence.ids) :] + answer_ids
        sequence.answers.append((start, start + len(answer_ids)))
    return made


def _pairs(messages: Conversation, answers: list[int], texts: Texts) -> Iterator[tuple[str, str]]:
    """Prompt and whole of each answer; the template's refusal with the likely cause."""
    known: list[str] = []
    counts = [count for turn in answers for count in (turn, turn + 1)]
    for count, text in zip(counts, texts, strict=True):
        if isinstance(text, BadInput):
            raise BadInput(str(text), _way_out(messages[:count], text.next_step)) from text
        known.append(text)
    return zip(known[::2], known[1::2], strict=True)


def _way_out(messages: Conversation, step: str) -> str:
    talk = [message["role"] for message in messages if message["role"] != "system"]
    if talk[0] == "assistant":
        return (
            "This base wants a user's turn first: remove the assistant's opening, or take"
            " another base."
        )
    if any(before == after for before, after in pairwise(talk)):
        return "This base wants the turns to alternate: join those of one speaker into one."
    return step or "Take another base, or leave the row out."


def _answer(base: Base, prompt: str, whole: str, content: str) -> str:
    """What stands between the generation prompt and the end of the turn.

    As the template writes it there. One that writes former answers otherwise than it asks for them
    has it put together: what answers begin with, thoughts, words, what stands before the end.
    """
    thoughts, words = parted(content)
    if whole.startswith(prompt):
        answer, end, _ = whole.removeprefix(prompt).partition(base.end_of_turn_text)
        if end and thoughts in answer:
            return answer
    asked = _asked(base)
    words = words if words in whole else words.strip()
    if asked.lead is None or words not in whole:
        raise BadInput(
            f"{base.name}'s chat template does not put this answer where it is generated",
            "Remove what the template treats specially (such as thinking tags) from the text.",
        )
    return asked.lead + behind(prompt, thoughts, words) + asked.tail(base.end_of_turn_text)


@lru_cache(maxsize=4)
def _asked(base: Base) -> Asked:
    return Asked.by(lambda talk, generate: render(base, talk, generate=generate))
