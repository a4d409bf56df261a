"""Thinking is decided once: one prompt whatever a client says, on the fake and the real Ollama."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import real_ollama
from made import specialist

from pipeline.common import places
from pipeline.common.errors import ProofFailed, ToolFailed
from pipeline.common.values import Conversation
from pipeline.made.artifacts import Specialist
from pipeline.made.stage import Where
from pipeline.release import think_states
from pipeline.release.publish import publish, release
from pipeline.stages.fetching.frozen import freeze
from pipeline.tools import smallest
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.ollama import Ollama

NAME = "tiny:candidate-thinks"
HELLO: Conversation = [{"role": "user", "content": "Hello"}]
TURNS = (
    "{{ bos_token }}{% for m in messages %}<|turn|>{{ m['role'] }}\n{% if m['role'] == 'assistant' "
    "and m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n"
)
SWITCHED = TURNS + (
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
"""As Qwen 3."""
ALWAYS = TURNS + "<think>\n{% endif %}"
"""As R1 and MiniMax M2."""
R1 = places.llama_cpp() / "models/templates/deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja"


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest model answers behind the end of thoughts, too."""
    follows = smallest.follows

    def more(says: str, *, endless: bool = False) -> dict[int, int]:
        return {smallest.byte_id(">"): smallest.byte_id(says[0])} | follows(says, endless=endless)

    monkeypatch.setattr(smallest, "follows", more)


@pytest.fixture(
    params=[
        "fake",
        *(pytest.param(version, marks=pytest.mark.smoke) for version in real_ollama.versions()),
    ]
)
def ollama(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ollama]:
    if request.param == "fake":
        with FakeOllama(tmp_path / "m") as fake, Ollama(fake.address) as door:
            yield door
    else:
        with (
            real_ollama.serving(tmp_path, real_ollama.binary(request.param)) as address,
            Ollama(address) as door,
        ):
            yield door


def registered(folder: Path, ollama: Ollama, template: str, says: str) -> Specialist:
    made = specialist(folder, template=template, says=says)
    smallest.write(made.packed.served.path, says, template=template)
    publish(made, ollama, NAME, Where())
    return made


@pytest.mark.parametrize(
    "own", [SWITCHED, ALWAYS, R1.read_text()], ids=["switched", "always", "r1"]
)
def test_a_frozen_template_serves_one_plain_prompt_in_every_state(
    tmp_path: Path, ollama: Ollama, own: str
) -> None:
    template = freeze(own, "x", bos="<s>", eos="<|end|>")
    made = registered(tmp_path / "x", ollama, template, "ok")
    assert think_states.states(template) == (None, False, True)
    think_states.check(ollama, NAME, made)
    for think in (None, False, True):
        reply = ollama.chat(NAME, HELLO, limit=9, think=think)
        assert (reply.text, reply.thoughts, reply.reason) == ("ok", "", "stop")
    assert release(made, ollama).proof


def test_one_that_is_not_frozen_is_found_out(tmp_path: Path, ollama: Ollama) -> None:
    made = registered(tmp_path / "x", ollama, SWITCHED, "ok")
    with pytest.raises(ProofFailed, match="says false of thinking, Ollama makes another prompt"):
        think_states.check(ollama, NAME, made)


def test_who_asks_one_for_thoughts_that_has_none_is_refused(tmp_path: Path, ollama: Ollama) -> None:
    made = registered(tmp_path / "x", ollama, smallest.TEMPLATE, "ok")
    assert think_states.states(made.base.template) == (None, False)
    think_states.check(ollama, NAME, made)
    with pytest.raises(ToolFailed, match="does not support thinking"):
        ollama.chat(NAME, HELLO, limit=1, think=True)


@pytest.mark.smoke
@pytest.mark.parametrize("version", real_ollama.versions())
def test_thoughts_come_back_apart_from_the_answer(tmp_path: Path, version: str) -> None:
    """Where rows have thoughts; `a</think>b` is what this model writes."""
    template = freeze(ALWAYS, "x", bos="<s>", thinking=True)
    with (
        real_ollama.serving(tmp_path, real_ollama.binary(version)) as address,
        Ollama(address) as ollama,
    ):
        made = registered(tmp_path / "x", ollama, template, "a</think>b")
        think_states.check(ollama, NAME, made)
        for think in (None, False, True):
            reply = ollama.chat(NAME, HELLO, limit=99, think=think)
            assert (reply.text, reply.thoughts.strip(), reply.reason) == ("b", "a", "stop")
