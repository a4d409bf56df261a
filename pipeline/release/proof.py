"""The proof: what Ollama serves under a name is what was trained.

Twenty conversations go to Ollama as a user would send them. The prompt that it renders, the token
ids that llama.cpp makes of it with the file that Ollama stored, and the number of tokens that it
evaluated must be those of the training; answers must end by themselves, greedy ones and those that
`ollama run` gets under the model's own PARAMETERs; and the stored file must hold what training
promised (promise.py). Whatever is missing in a reply is a failure: there is no check that passes
because it could not be made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from pipeline.bases.chat_template import render, trained_messages
from pipeline.common import places
from pipeline.common.errors import ProofFailed
from pipeline.common.progress import Progress
from pipeline.common.thoughts import behind, spoken
from pipeline.common.values import Conversation
from pipeline.made.artifacts import Specialist
from pipeline.made.conversations import Conversations, digest_of_row
from pipeline.made.stage import Where
from pipeline.release import promise, think_states
from pipeline.release.candidate import Candidate
from pipeline.release.prompt_forms import forms
from pipeline.release.served_prompt import served_prompt, served_template
from pipeline.release.stored_file import same_file
from pipeline.stages.packing.text_file import opened_by_llama
from pipeline.stages.preparing.control import structural
from pipeline.tools import llamacpp
from pipeline.tools.ollama import Ollama, Reply

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONVERSATIONS = 20
ANSWERS = 10
RUNS = 4  # of them asked for once more as `ollama run` asks
UNTRAINED = -100  # torch's label of a token that is not trained
PATIENCE = 4  # times the longest trained answer: one that is not over by then will not end
_REPORT = "Please report this; until then, another base serves."


class Proof(BaseModel):
    """What was compared, and found equal."""

    model_config = ConfigDict(frozen=True)

    conversations: int
    tokens: int
    """Token ids of all their prompts."""
    answers: int
    """Answers that ended by themselves."""
    longest: int
    """Tokens of the longest of them."""
    tensors: int
    seconds: float
    runs: int = 0
    """Answers asked for as `ollama run` asks; 0 in a proof of an earlier version."""
    loss: float | None = None
    """Of the stored file on held-out answers, nats per token."""
    promised: float | None = None
    """The same of base + adapter, before merging and quantizing."""
    cost: float | None = None
    """What the PARAMETERs add to it."""

    @property
    def stored(self) -> float | None:
        """What merging and storing took of what was trained, in nats per token; None if unknown."""
        if self.loss is None or self.promised is None:
            return None
        return self.loss - self.promised

    @property
    def summary(self) -> str:
        """The proof in a line."""
        parts = [
            f"{self.conversations} prompts equal ({self.tokens} token ids)",
            f"{self.answers + self.runs} answers end by themselves",
            f"{self.tensors} tensors equal",
        ]
        if self.loss is not None and self.promised is not None:
            parts.append(f"loss {self.loss:.2f}, trained {self.promised:.2f}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Case:
    """A conversation of the proof, up to a user's turn."""

    source: str
    """Where it comes from, for people."""
    messages: Conversation
    trained: list[int] | None = None
    """The ids that were trained before the answer; None with a built-in form."""


def prove(
    ollama: Ollama, candidate: Candidate, made: Specialist, where: Where | None = None
) -> Proof:
    """Compare what Ollama serves as the candidate with what was made.

    Raises:
        ProofFailed: the first difference.
        Missing: the stored file cannot be read, so that nothing can be proven.
    """
    where, name, start = where or Where(), candidate.name, time.monotonic()
    candidate.check(ollama)
    ollama.unload(name)  # a model that is loaded keeps the template mode of the name it came by
    own, shown = served_template(ollama, name, made.base)
    if shown != own:
        raise ProofFailed(_differ("the chat template", own, shown), _REPORT)
    blob = ollama.stored_blob(name)
    tensors = same_file(made.packed.served.path, blob)
    tokens = 0
    replies: list[Reply] = []
    runs: list[tuple[list[int], Reply]] = []
    cases = list(conversations(made))
    with (
        TemporaryDirectory(dir=places.home()) as scratch,
        opened_by_llama(blob, Path(scratch), weights=True) as plain,
        llamacpp.Model(plain, weights=True) as model,
    ):
        for done, case in enumerate(cases):
            where.report(Progress(done, len(cases), case.source))
            asks = case.trained is not None and len(replies) < ANSWERS
            limit = PATIENCE * made.data.longest_answer if asks else 1
            ids = _prompt(ollama, name, made, model, case)
            reply = ollama.chat(name, case.messages, limit=limit)
            _count(case, len(ids), reply)
            tokens += len(ids)
            if asks:
                replies.append(_ended(made, case, reply))
                if len(runs) < RUNS:
                    once = len(runs) % 2 == 1
                    answer = _run(ollama, name, made, case, len(ids), once=once)
                    runs.append((ids, answer))
        think_states.check(ollama, name, made)
        _mostly_end(made, [reply for _, reply in runs])
        held = promise.hold(model, made, where)
        prompt = render(made.base, cases[0].messages, generate=True)  # all end alike
        given = [(ids, behind(prompt, reply.thoughts, reply.text)) for ids, reply in runs]
        promise.check_answers(model, given, held, made, where.threads)
    candidate.check(ollama)
    return Proof(
        conversations=len(cases),
        tokens=tokens,
        answers=len(replies),
        longest=max((reply.answer_tokens for reply in replies), default=0),
        tensors=tensors,
        runs=sum(reply.reason == "stop" for _, reply in runs),
        loss=round(held.loss, 4),
        promised=None if made.packed.loss is None else round(made.packed.loss, 4),
        cost=round(held.cost, 4),
        seconds=round(time.monotonic() - start, 1),
    )


def conversations(made: Specialist) -> Iterator[Case]:
    """Rows of the test part, of the training where these are too few, and the built-in forms."""
    built_in = forms(made.system)
    room = CONVERSATIONS - len(built_in)
    every = (row for part in ("test", "train") for row in made.data.each(part))
    rows = list(islice(every, room))
    digests = [digest_of_row(row) for row in rows]
    known = made.rows if isinstance(made.rows, Conversations) else None
    places = known.places(digests) if known else {}
    for digest, row in zip(digests, rows, strict=True):
        yield _case(row, f"{places.get(digest, 'the row')} ({_asks(row)})", made.system)
    for name, messages in built_in.items():
        yield Case(f"built-in form: {name}", messages)


def origin(row: dict[str, Any], known: Conversations | None) -> str:
    """Where a row stands in the user's file."""
    digest = digest_of_row(row)
    return (known.places([digest]) if known else {}).get(digest, "a row")


def _asks(row: dict[str, Any]) -> str:
    """How the row begins: people know their texts better than line numbers."""
    first = next(turn["content"] for turn in row["messages"] if turn["role"] == "user")
    return f"“{shorten(first, 40, placeholder=' …')}”"


def _case(row: dict[str, Any], source: str, system: str) -> Case:
    """A row up to its last trained answer, without the SYSTEM that Ollama has to add."""
    turns: Conversation = row["messages"]
    unlearned = row.get("context", ())
    last = max(
        i for i, turn in enumerate(turns) if turn["role"] == "assistant" and i not in unlearned
    )
    first = 1 if turns[0] == {"role": "system", "content": system} else 0
    sequence = row["sequences"][-1]
    end = max(i for i, label in enumerate(sequence["labels"]) if label != UNTRAINED)
    while end and sequence["labels"][end - 1] != UNTRAINED:
        end -= 1
    return Case(source, spoken(turns[first:last]), sequence["ids"][:end])


def _prompt(
    ollama: Ollama, name: str, made: Specialist, model: llamacpp.Model, case: Case
) -> list[int]:
    """The ids of the prompt, after all sides agree on them."""
    base = made.base
    ours = render(base, trained_messages(case.messages, made.system), generate=True)
    theirs = served_prompt(ollama, name, base, case.messages)
    if theirs != ours:
        raise ProofFailed(_differ(f"the prompt of {case.source}", ours, theirs), _REPORT)
    ids = ([] if base.bos is None else [base.bos]) + _tokenizer(base.path).encode(
        ours, add_special_tokens=False
    ).ids
    if case.trained is not None and case.trained != ids:
        raise ProofFailed(_differ(f"the trained tokens of {case.source}", case.trained, ids))
    served = model.tokenize(theirs, special=True, bos=True)
    if served != ids:
        raise ProofFailed(_differ(f"the tokens of {case.source}", ids, served), _REPORT)
    return ids


@lru_cache(maxsize=1)
def _tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path / "tokenizer.json"))


def _count(case: Case, trained: int, reply: Reply) -> None:
    if reply.prompt_tokens != trained:
        raise ProofFailed(
            f"Ollama reads {case.source} as {reply.prompt_tokens} tokens, trained were {trained}"
            + (" (a second BOS)" if reply.prompt_tokens == trained + 1 else ""),
            _REPORT,
        )


def _ended(made: Specialist, case: Case, reply: Reply) -> Reply:
    """The answer, if it ended by itself and without markers."""
    more = "Train longer (--set tune.epochs=…) or look at the end of the answers in the data."
    if reply.reason != "stop":
        limit = PATIENCE * made.data.longest_answer
        raise ProofFailed(
            f"the answer to {case.source} does not end within {limit} tokens: "
            f"…{reply.text[-60:]!r} ({reply.reason})",
            more,
        )
    shown = [marker for marker in structural(made.base) if marker in reply.text]
    if shown:
        raise ProofFailed(f"the answer to {case.source} shows {shown[0]}: {reply.text!r}", more)
    return reply


def _run(
    ollama: Ollama, name: str, made: Specialist, case: Case, prompt: int, *, once: bool
) -> Reply:
    """The answer that a user will see, if it is whole.

    Args:
        once: ask as with a prompt on the command line, where the case is one question.
    """
    patience = PATIENCE * made.data.longest_answer
    if once and len(case.messages) == 1:
        reply = ollama.run_once(name, case.messages[0]["content"], patience=patience)
    else:
        reply = ollama.run(name, case.messages, patience=patience)
    asked = f"asked as `ollama run` asks, the answer to {case.source}"
    way_out = promise.look_at(made)
    if not reply.text.strip():
        raise ProofFailed(f"{asked} is empty", way_out)
    if shown := [mark for mark in (*structural(made.base), "<think>") if mark in reply.text]:
        raise ProofFailed(f"{asked} shows {shown[0]}: {reply.text!r}", way_out)
    if reply.reason:
        _count(case, prompt, reply)
    return reply


def _mostly_end(made: Specialist, runs: Sequence[Reply]) -> None:
    """One sampled answer may ramble; if half of them do, users will see it."""
    endless = [reply for reply in runs if reply.reason != "stop"]  # we hung up, or num_predict
    if len(endless) * 2 > len(runs):
        raise ProofFailed(
            f"asked as `ollama run` asks, {len(endless)} of {len(runs)} answers do not end by"
            f" themselves: …{endless[0].text[-60:]!r} ({endless[0].answer_tokens} tokens)",
            f"{promise.look_at(made)} Or train longer (--set tune.epochs=…).",
        )


def _differ(what: str, ours: Sequence[Any], theirs: Sequence[Any]) -> str:
    """The first difference, with what stands around it on both sides."""
    at = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    left, right = ours[max(at - 20, 0) : at + 40], theirs[max(at - 20, 0) : at + 40]
    return f"{what} differs at {at}:\n  trained {left!r}\n  served  {right!r}"
