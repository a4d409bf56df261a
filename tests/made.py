"""A whole specialist made of the smallest model: what a release takes, in a tenth of a second."""

from __future__ import annotations

import json
from pathlib import Path

from taken_in import taken_in
from tokenizers import Tokenizer

from pipeline.bases.chat_template import render, trained_messages
from pipeline.common.values import Conversation
from pipeline.made.artifacts import Adapter, Base, Dataset, Packed, Specialist
from pipeline.made.conversations import Conversations
from pipeline.tools import smallest

ANSWER = [*(smallest.byte_id(character) for character in smallest.SAYS), smallest.END]


def specialist(
    folder: Path,
    *,
    name: str = "tiny",
    system: str = "Be brief.",
    rows: int = 12,
    says: str = smallest.SAYS,
    endless: bool = False,
    template: str = smallest.TEMPLATE,
    **base_facts: str,
) -> Specialist:
    """A specialist whose stage directories lie in `folder`.

    Args:
        base_facts: what its base has otherwise, as `renderer`.
    """
    base = _base(folder / "fetch-0", template).model_copy(update=base_facts)
    return Specialist(
        name=name,
        base=base,
        data=_data(folder / "prepare-0", base, system, rows),
        rows=_taken_in(folder, base, system, rows),
        adapter=_adapter(folder / "tune-0"),
        packed=_packed(folder / "pack-0", says, endless),
        system=system,
        parameters={"num_ctx": 1024, "temperature": 0.3, "stop": ["END"]},
        license="MIT\nwith two lines",
        stages=("fetch-0", "prepare-0", "tune-0", "pack-0"),
    )


def _base(path: Path, template: str) -> Base:
    path.mkdir(parents=True)
    smallest.write_tokenizer(path / "tokenizer.json")
    (path / "chat_template.jinja").write_text(template)
    return Base.at(
        path,
        name="smallest",
        architecture="LlamaForCausalLM",
        parameters=50_000,
        context=smallest.CONTEXT,
        bos=smallest.BOS,
        bos_text="<s>",
        eos_text="<|end|>",
        end_of_turn=smallest.END,
        end_of_turn_text="<|end|>",
        control=smallest.CONTROL,
        nfc=False,
        license="MIT",
    )


def _data(path: Path, base: Base, system: str, rows: int) -> Dataset:
    path.mkdir()
    lines = [_row(base, system, number) for number in range(1, rows + 1)]
    cut = max(rows - 4, 0)
    for part, some in (("train", lines[:cut]), ("validation", []), ("test", lines[cut:])):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in some)
        (path / f"{part}.jsonl").write_text(text, encoding="utf-8")
    return Dataset.at(
        path,
        rows=rows,
        train=cut,
        validation=0,
        test=rows - cut,
        tokens=1000,
        longest=200,
        longest_answer=len(ANSWER),
        uses_system=True,
    )


def _taken_in(folder: Path, base: Base, system: str, rows: int) -> Conversations:
    """The file that `_data` would have been made of; a row's number is its line."""
    lines = [_row(base, system, number) for number in range(1, rows + 1)]
    text = "".join(json.dumps({"messages": line["messages"]}) + "\n" for line in lines)
    (folder / "rows.jsonl").write_text(text)
    (folder / "intake-0").mkdir()
    found = taken_in(folder / "rows.jsonl", folder / "intake-0")
    return found.model_copy(update={"file": "rows.jsonl"})


def _row(base: Base, system: str, number: int) -> dict[str, object]:
    question: Conversation = [{"role": "user", "content": f"Question {number}: “why”?"}]
    asked = trained_messages(question, system)
    prompt = render(base, asked, generate=True)
    tokenizer = Tokenizer.from_file(str(base.path / "tokenizer.json"))
    before = [smallest.BOS, *tokenizer.encode(prompt, add_special_tokens=False).ids]
    after = [smallest.byte_id("\n")]  # what the template puts behind an answer: not trained
    labels = [*[-100] * len(before), *ANSWER, -100]
    return {
        "messages": [*asked, {"role": "assistant", "content": smallest.SAYS}],
        "sequences": [{"ids": [*before, *ANSWER, *after], "labels": labels}],
    }


def _adapter(path: Path) -> Adapter:
    path.mkdir()
    (path / "adapter_config.json").write_text("{}")
    return Adapter.at(path, loss=0.5, epochs=3.0, steps=9, seconds=1.0, tokens_per_second=100.0)


def _packed(path: Path, says: str, endless: bool) -> Packed:
    path.mkdir()
    smallest.write(path / "model.gguf", says, endless=endless)
    size = (path / "model.gguf").stat().st_size
    return Packed.at(path, quantization="F32", size=size)
