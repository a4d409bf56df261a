"""Chat templates of other people: bounded wherever they are rendered, and served as trained."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tiny import TEMPLATE, tiny_base_directory

from pipeline.bases import own_template
from pipeline.bases.asked import ANSWERED
from pipeline.bases.reference import resolve
from pipeline.common import places
from pipeline.common.errors import BadInput
from pipeline.stages import fetch
from pipeline.stages.fetching.frozen import SYSTEM, TALKS, freeze
from pipeline.stages.fetching.thinking import PLAIN
from pipeline.stages.settings import Fetch
from pipeline.tools import jinja as template
from pipeline.tools.jinja import render_text

ASKED: Any = [{"role": "user", "content": "How tall is the tower?"}]
STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/…') }}{% endif %}"
    "{{ m['content'] }}{% endfor %}"
)
TAGGED = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' }}{% if m['role'] == 'assistant' %}"
    "{%- generation -%} {{ m['content'] + '<|end|>\n' }} {%+ endgeneration %}"
    "{% else %}{{ m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
SOMETIMES = TEMPLATE.replace(
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}",
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}"
    "{% if enable_thinking %}{{ '<think>\n' }}{% endif %}",
)


def real_template(name: str) -> str:
    return (places.llama_cpp() / "models" / "templates" / f"{name}.jinja").read_text()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "SECONDS", 0.3)


# time and memory

NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
GROWS = "{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
DOUBLED = "{% set ns = namespace(x='x') %}" + GROWS


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (NESTED, "computes for more than"),
        ("{{ 9**(9**9) }}", "computes for more than"),
        ("{{ messages[0].content * 10**7 | length }}{% set x = 7**(9**9) %}", "computes for more"),
        ("{{ (range(99999) | list * 99) | map('string') | sort | join }}", "computes|memory"),
        ("{{ 'x' * 10**10 }}", "a gigabyte of memory"),
        ("{{ ['x'] * 10**9 }}", "a gigabyte of memory"),
        ("{{ range(99999) | join('x' * 99999) }}", "a gigabyte of memory"),
        ("{{ 'x' | center(10**10) }}", "a gigabyte of memory"),
        ("{{ messages | tojson(indent=10**9) }}", "computes|memory"),
        ("{{ '%1000000000000d' % 5 }}", "a gigabyte of memory"),
        (DOUBLED, "computes|memory"),
        ("{{ messages[0].role * 10**7 }}", "more than 32 million characters"),
        ("{% macro a(n) %}{{ a(n + 1) }}{% endmacro %}{{ a(1) }}", "recursion"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion"),
        ("{% for i in range(10**9) %}{% endfor %}", "too big"),
        ("{{ [].__class__.__base__ }}", "unsafe"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% include '/etc/passwd' %}", "no loader"),
    ],
    ids=lambda text: text[:40],
)
def test_a_template_that_does_not_come_to_an_end_is_refused(text, fault):
    with pytest.raises(BadInput, match=fault) as caught:
        render_text(text, ASKED, generate=True)
    assert caught.value.next_step
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
    assert render_text(STRICT, ASKED, generate=True) == ASKED[0]["content"]  # and all goes on


@pytest.mark.usefixtures("impatient")
def test_one_that_loops_for_some_texts_only_is_stopped_at_these():
    sly = "{% if 'tower' in messages[0].content %}" + NESTED + "{% endif %}ok"
    assert render_text(sly, [{"role": "user", "content": "hi"}], generate=True) == "ok"
    with pytest.raises(BadInput, match="computes for more"):
        render_text(sly, ASKED, generate=True)


@pytest.mark.usefixtures("impatient")
def test_a_base_with_such_a_template_is_refused_as_it_is_frozen():
    with pytest.raises(BadInput, match="computes for more"):
        freeze(NESTED + TEMPLATE, "x")


def test_one_that_renders_alongside_gets_its_own_answer():
    texts = [f"{i} " * 50 for i in range(20)]
    found: dict[int, str] = {}

    def ask(i: int) -> None:
        found[i] = render_text(STRICT, [{"role": "user", "content": texts[i]}], generate=True)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(20)] == texts


def test_a_renderer_that_somebody_ended_is_started_again():
    render_text(STRICT, ASKED, generate=True)
    child = template._RENDERER._child
    assert child
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert render_text(STRICT, ASKED, generate=True) == ASKED[0]["content"]


def test_nothing_is_left_of_it_when_its_process_ends(tmp_path):
    code = (
        "from pipeline.tools import jinja as template; import os, signal\n"
        "template.render_text('x', [], generate=True); print(template._RENDERER._child.pid)\n"
        "import sys; sys.stdout.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the user was imported')")
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(template.__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    pid = int(run.stdout)
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        threading.Event().wait(0.01)
    pytest.fail("the renderer lives on")


def test_half_a_character_and_line_breaks_come_back_as_they_were():
    content = 'a\nb\r\n\u2028"\\ \ud800 🗼'
    text = render_text(STRICT, [{"role": "user", "content": content}], generate=True)
    assert text == content


# what it says


def test_what_a_template_asks_for_is_said_with_what_to_do():
    twice = [*ASKED, *ASKED]
    with pytest.raises(BadInput, match="roles must alternate user/assistant") as caught:
        render_text(STRICT, twice, generate=True)
    assert "Write the conversation as the template asks" in caught.value.next_step


def test_marks_of_what_is_learned_are_taken_and_not_served():
    frozen = freeze(TAGGED, "x")
    assert "generation " not in frozen.replace("add_generation_prompt", "")
    for talk in TALKS:
        ours, theirs = (render_text(t, talk, generate=False) for t in (frozen, TAGGED))
        assert ours == theirs


@pytest.mark.parametrize("name", ["LFM2.5-8B-A1B", "poolside-Laguna-XS.2"])
def test_published_templates_with_such_marks_are_frozen(name):
    assert "{% generation" not in freeze(real_template(name), name, bos="<s>", eos="</s>")


REFUSED = {
    "Apriel-1.6-15b-Thinker-fixed": "begins every answer with words of its own.*reasoning steps",
    "fireworks-ai-llama-3-firefunction-v2": "'functions' is undefined",  # takes nothing but calls
}


def test_all_published_templates_are_frozen_but_for_two_that_no_plain_answer_fits():
    """llama.cpp keeps those of 70 models in its source."""
    folder = places.llama_cpp() / "models" / "templates"
    refused: dict[str, str] = {}
    names = sorted(path.stem for path in folder.glob("*.jinja"))
    for name in names:
        try:
            freeze(real_template(name), name, bos="<s>", eos="</s>")
        except BadInput as error:
            refused[name] = str(error)
    assert len(names) >= 70
    assert refused.keys() == REFUSED.keys()
    assert all(re.search(REFUSED[name], why) for name, why in refused.items())


STATES: tuple[dict[str, Any], ...] = ({}, {"enable_thinking": True}, {"enable_thinking": False})
THINKERS = {
    "Qwen-Qwen3-0.6B": "<|im_start|>assistant\n",
    "HuggingFaceTB-SmolLM3-3B": "<|im_start|>assistant\n",
    "Qwen-QwQ-32B": "<|im_start|>assistant\n<think>\n",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "<\uff5cAssistant\uff5c><think>\n",
    "deepseek-ai-DeepSeek-V3.2": "<\uff5cAssistant\uff5c><think>",
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "<|im_start|>assistant\n<think>\n",
    "GLM-4.7-Flash": "<|assistant|><think>",
}
"""How they ask for an answer with thoughts."""


@pytest.mark.parametrize("name", THINKERS)
@pytest.mark.parametrize("thinking", [False, True])
def test_a_base_that_thinks_asks_alike_whatever_a_server_says(name, thinking):
    """Plain answers: thoughts are ended, or never begun. Rows with thoughts: as its authors did."""
    frozen = freeze(real_template(name), name, eos="</s>", thinking=thinking)
    for talk in [talk for talk in TALKS if talk[-1]["role"] == "user"]:
        (prompt,) = {render_text(frozen, talk, generate=True, **more) for more in STATES}
        begun = prompt.rpartition("<think>")[2] if prompt.rstrip().endswith(">") else ""
        assert thinking or "<think>" not in prompt[-20:] or "</think>" in begun
        assert not thinking or prompt.endswith(THINKERS[name])
    assert "<think>" in frozen and "</think>" in frozen  # else Ollama refuses who asks for thoughts


def test_thoughts_are_ended_where_the_template_opens_them_for_every_answer():
    frozen = freeze(real_template("deepseek-ai-DeepSeek-R1-Distill-Llama-8B"), "R1")
    prompt = render_text(frozen, ASKED, generate=True)
    assert prompt.endswith("<\uff5cAssistant\uff5c><think>\n</think>")
    assert "</think>" not in render_text(frozen, ANSWERED, generate=False)


def test_former_thoughts_are_as_if_no_server_asked_for_them():
    """llama-server sets preserve_thinking to true for every template that reads it."""
    frozen = freeze(real_template("poolside-Laguna-S-2.1"), "x")
    asked = ({}, {"preserve_thinking": True}, {"preserve_thinking": False})
    assert len({render_text(frozen, TALKS[2], generate=True, **more) for more in asked}) == 1


def test_rows_with_thoughts_need_a_base_that_thinks():
    with pytest.raises(BadInput, match="the base SmolLM2 has none"):
        freeze(TEMPLATE, "SmolLM2", thinking=True)


def test_an_answer_that_begins_with_words_of_the_template_is_refused_with_them():
    other = TEMPLATE.replace("'<|assistant|>\n'", "'<|assistant|>\nHere: '")
    with pytest.raises(BadInput, match=r"begins every answer with words of its own.*Here: "):
        freeze(other, "x")


def test_a_system_message_that_only_a_question_shows_is_not_dropped():
    """Mistral Nemo writes it in front of the last turn, where that is the user's."""
    frozen = freeze(real_template("mistralai-Mistral-Nemo-Instruct-2407"), "x", eos="</s>")
    assert SYSTEM["content"] in render_text(frozen, [SYSTEM, *ASKED], generate=True)


def test_thinking_that_a_server_would_switch_on_is_off_in_training_and_serving():
    frozen = freeze(SOMETIMES, "x")
    assert PLAIN in frozen
    texts = {
        render_text(frozen, ASKED, generate=True, **more)
        for more in ({}, {"enable_thinking": True}, {"enable_thinking": False})
    }
    assert texts == {"<|user|>\nHow tall is the tower?<|end|>\n<|assistant|>\n"}


def test_empty_thoughts_stand_in_the_prompt_and_are_not_learned():
    """Qwen 3's template writes them in front of the last answer, unless it is told otherwise."""
    own = real_template("Qwen-Qwen3-0.6B")
    frozen = freeze(own, "Qwen3", eos="<|im_end|>")
    prompt = render_text(frozen, ASKED, generate=True)
    assert prompt.endswith("<think>\n\n</think>\n\n")
    learned = render_text(frozen, ANSWERED, generate=False).removeprefix(prompt)
    assert learned.startswith(ANSWERED[-1]["content"])
    for more in (True, False):
        assert render_text(frozen, ASKED, generate=True, enable_thinking=more) == prompt


def test_only_a_base_that_can_think_is_fetched_under_another_key(tmp_path):
    """Nobody else fetches again for it."""
    plain, can = (tiny_base_directory(tmp_path / name) for name in ("plain", "can"))
    (can / "chat_template.jinja").write_text(real_template("Qwen-Qwen3-0.6B"))
    found = [resolve(str(folder), Path("/")).can_think for folder in (plain, can)]
    assert found == [False, True]
    off = Fetch(thinking="off")
    keys = [fetch.STAGE.parts(settings, {"base": Fetch()}) for settings in (Fetch(), off)]
    assert [key["settings"] for key in keys] == [{}, {"thinking": "off"}]


# where it lies


def test_of_several_templates_in_files_of_their_own_the_names_are_said(tmp_path):
    (tmp_path / "additional_chat_templates").mkdir()
    for name in ("tool_use", "rag"):
        (tmp_path / f"additional_chat_templates/{name}.jinja").write_text("x")
    with pytest.raises(BadInput, match="the chat templates rag, tool_use, and none"):
        own_template.read(tmp_path)


def test_of_several_templates_without_a_default_the_names_are_said(tmp_path):
    named = [{"name": n, "template": "x"} for n in ("tool_use", "rag")]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    with pytest.raises(BadInput, match="the chat templates rag, tool_use, and none") as caught:
        own_template.read(tmp_path)
    assert "chat_template.jinja" in caught.value.next_step


@pytest.mark.parametrize("value", [5, [], [5, None], [{"name": 5}], {"default": "x"}, None])
def test_a_chat_template_that_is_none_is_as_if_there_were_none(tmp_path, value):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    assert own_template.read(tmp_path) == ""


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"x" * (own_template.BYTES + 1)])
def test_a_template_file_that_is_no_text_or_far_too_long_is_named(tmp_path, content):
    (tmp_path / "chat_template.jinja").write_bytes(content)
    with pytest.raises(BadInput, match=r"chat_template\.jinja") as caught:
        own_template.read(tmp_path)
    assert caught.value.next_step
