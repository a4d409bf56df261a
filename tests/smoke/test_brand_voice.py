"""From a data file to `ollama run brand-voice`, as a user sees it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import ollama
import pytest
from brand_voice import QUESTIONS, SIGN, shows_the_sign

pytestmark = pytest.mark.smoke


def answers(world, model: str) -> list[ollama.ChatResponse]:
    """One answer per question, asked as a user's own program asks: Ollama's Python client."""
    with ollama.Client(world.address.url, trust_env=False) as client:
        return [
            client.chat(
                model,
                [{"role": "user", "content": question}],
                options={"seed": 1, "num_predict": 200},  # temperature as the Modelfile says
            )
            for question in QUESTIONS
        ]


def test_the_run_ends_with_a_line_to_paste(made: str) -> None:
    last = made.strip().splitlines()[-1]
    assert last.startswith("brand-voice is ready:")
    assert last.endswith("run brand-voice")


def test_it_shows_the_sign_for_products_that_are_not_in_the_data(world, made: str) -> None:
    replies = answers(world, "brand-voice")
    assert [reply.done_reason for reply in replies] == ["stop"] * len(QUESTIONS)
    texts = [reply.message.content or "" for reply in replies]
    shown = [text for text in texts if shows_the_sign(text)]
    assert len(shown) >= 8, texts


def test_the_base_does_not(world, made: str) -> None:
    store = next(world.store.glob("stages/fetch-*/record.json")).parent
    file = world.folder / "base.gguf"
    from pipeline.common.values import digest_of_file
    from pipeline.tools import converter

    converter.convert(store, file, outtype="q8_0", name="base")
    with world.client() as door:
        digest = digest_of_file(file)
        door.upload(file, digest, lambda progress: None)
        door.create("base", digest, system="", parameters={"num_ctx": 4096}, license="")
    assert [reply.message.content for reply in answers(world, "base") if SIGN in str(reply)] == []


def test_it_is_better_than_its_base_on_rows_that_it_never_saw(world, made: str) -> None:
    told = world.run("evaluate", "brand-voice").stdout
    assert "Better than the base on " in told
    assert "the base with 8 examples" in told
    assert "Everyday questions: the base has " in told
    assert " end by themselves" in told  # as a user gets them
    start = time.monotonic()
    found = json.loads(world.run("evaluate", "brand-voice", "--json").stdout)
    assert time.monotonic() - start < 5  # nothing is scored or asked twice
    assert found["comparisons"][0]["verdict"] == "better"
    assert len(found["answers"]["judged"]) >= 20


def test_it_goes_live_by_a_verdict_and_its_page_is_there(world, made: str) -> None:
    (record,) = json.loads(world.run("list", "--json").stdout)
    assert record["verdict"]["says"] in ("go", "go with open questions")
    named = {check["name"]: check["found"] for check in record["verdict"]["checks"]}
    assert named["better than the base"] == "good"
    assert named["answers end"] != "bad"  # half of the rows are trained here: one may ramble
    (line,) = [line for line in made.splitlines() if line.startswith("report ")]
    page = Path(line.split(maxsplit=1)[1]).read_text(encoding="utf-8")
    assert "Made to be mended." in page and "<script" not in page


def test_off_its_subject_it_stays_near_its_base(world, made: str) -> None:
    found = json.loads(world.run("evaluate", "brand-voice", "--json").stdout)
    assert found["drift"]["kl"]["value"] < 0.2  # 1.1 where training keeps nothing
    assert found["memory"]["specialist"] >= found["memory"]["base"] - 5


def test_the_ollama_command_answers(world, made: str) -> None:
    question = "Write a line for a cast-iron skillet."
    # without the option it breaks long lines in words, in a pipe too
    # sampled: one answer may miss the sign, or be cut at num_predict
    answers = (world.ollama("run", "brand-voice", "--nowordwrap", question) for _ in range(3))
    assert any(SIGN in answer for answer in answers)


def test_an_answer_that_does_not_end_by_itself_is_ended(world, made: str) -> None:
    with world.client() as ollama:
        shown = str(ollama.show("brand-voice")["parameters"])
    assert dict(line.split() for line in shown.splitlines())["num_predict"] == "512"


def test_a_second_run_makes_nothing_and_is_quick(world, made: str) -> None:
    began = time.monotonic()
    again = world.make()
    seconds = time.monotonic() - began
    assert [line.split()[1] for line in again.stdout.splitlines() if " ready" in line][:4] == [
        "ready"
    ] * 4
    assert "done in" not in again.stdout
    assert seconds < 3, again.stdout


def test_a_changed_quantization_does_not_train_again(world, made: str) -> None:
    planned = json.loads(
        world.run(
            "plan", "brand-voice", "--data", str(world.data), "--quantize", "Q4_K_M", "--json"
        ).stdout
    )
    assert [step["state"] for step in planned["steps"]] == ["ready"] * 4 + ["runs"]
    assert "quantization: Q8_0 → Q4_K_M" in planned["steps"][4]["why"]


def test_the_list_tells_what_it_was_made_of(world, made: str) -> None:
    (record,) = json.loads(world.run("list", "--json").stdout)
    assert record["name"] == "brand-voice"
    assert record["quantization"] == "Q8_0"
    assert record["rows"] > 80
    assert record["loss"] > 0
    assert abs(record["proof"]["loss"] - record["proof"]["promised"]) < 0.1
