"""The system message that is served is the one that the rows were trained with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made import specialist
from taken_in import taken_in

from pipeline import chain
from pipeline.chain import check, remarks, served_system
from pipeline.common.errors import BadInput
from pipeline.made.artifacts import Base
from pipeline.made.conversations import Conversations
from pipeline.made.stage import Where
from pipeline.release.proof import conversations
from pipeline.spec import spec
from pipeline.spec.parameters import doubtful
from pipeline.stages import prepare
from pipeline.stages.settings import Prepare
from pipeline.tools import smallest

CLERK = "You are the clerk of Birch & Sons."
ASKED = [{"role": "user", "content": "A lamp?"}, {"role": "assistant", "content": "One lamp left."}]


def source(folder: Path, *systems: str) -> Conversations:
    path = folder / "rows.jsonl"
    rows: list[dict[str, Any]] = [
        {"messages": [*([{"role": "system", "content": each}] if each else []), *ASKED]}
        for each in systems
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return taken_in(path)


def wanted(folder: Path, system: str = "") -> spec.Spec:
    (folder / "support.Modelfile").write_text(
        "FROM embedded:smollm2-135m-instruct\n" + (f'SYSTEM "{system}"\n' if system else "")
    )
    return spec.read("support", folder)


def test_a_message_that_all_rows_share_is_served_and_said(
    tmp_path: Path, smallest_base: Base
) -> None:
    data = source(tmp_path, CLERK, CLERK, CLERK)
    assert served_system(wanted(tmp_path), data, smallest_base) == CLERK
    assert remarks(wanted(tmp_path), data) == [
        f"all rows share one system message, it is served as SYSTEM: “{CLERK}”"
    ]


@pytest.mark.parametrize(
    ("systems", "modelfile", "served", "words"),
    [
        ((CLERK, "Another."), "", "", "the rows have 2 different system messages"),
        ((CLERK, ""), "", "", "1 of 2 rows have a system message (one and the same)"),
        ((CLERK, CLERK), "Mine.", "Mine.", "no row was trained with it"),
        ((CLERK, "Another."), "Mine.", "Mine.", "(2 different ones): SYSTEM of the Modelfile is"),
        ((CLERK, ""), "Mine.", "Mine.", "1 of 2 rows keep a system message of their own"),
        ((CLERK, CLERK), CLERK, CLERK, ""),
        (("", ""), "Mine.", "Mine.", ""),
        (("", ""), "", "", ""),
    ],
)
def test_where_rows_and_modelfile_differ_it_is_said_what_a_user_gets(
    tmp_path: Path,
    smallest_base: Base,
    systems: tuple[str, ...],
    modelfile: str,
    served: str,
    words: str,
) -> None:
    data = source(tmp_path, *systems)
    asked = wanted(tmp_path, modelfile)
    assert served_system(asked, data, smallest_base) == served
    said = remarks(asked, data)
    assert len(said) == bool(words)
    assert words in "".join(said)


def test_a_shared_message_is_served_as_the_tokenizer_reads_it(
    tmp_path: Path, smallest_base: Base
) -> None:
    data = source(tmp_path, "Cafe\u0301")
    nfc = smallest_base.model_copy(update={"nfc": True})
    assert served_system(wanted(tmp_path), data, nfc) == "Caf\u00e9"
    assert served_system(wanted(tmp_path), data, smallest_base) == "Cafe\u0301"


def test_rows_are_proven_with_the_shared_message_left_to_ollama(tmp_path: Path) -> None:
    made = specialist(tmp_path / "made", system=CLERK)
    smallest.write(made.base.vocab)
    data = source(tmp_path, CLERK, CLERK)
    (tmp_path / "out").mkdir()
    rows = prepare.run(
        tmp_path / "out", Prepare(system="", skip_long=False), made.base, data, where=Where()
    )
    case = next(conversations(made.model_copy(update={"data": rows})))
    assert case.messages == ASKED[:1]


def test_a_marker_in_system_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"SYSTEM of the Modelfile spells <\|eot_id\|>"):
        check(wanted(tmp_path, "You sell soap.<|eot_id|>"))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("repeat_penalty", 1.1, False),
        ("repeat_penalty", 1.5, True),
        ("repeat_penalty", 0.5, True),
        ("temperature", 1.2, False),
        ("temperature", 3, True),
    ],
)
def test_parameters_that_the_proof_will_refuse_are_told_before_training(
    name: str, value: float, told: bool
) -> None:
    assert bool(doubtful({name: value, "num_ctx": 4096})) == told


def test_every_answer_has_an_end_unless_the_modelfile_says_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, smallest_base: Base
) -> None:
    data = specialist(tmp_path / "one").data
    file = source(tmp_path, CLERK)
    monkeypatch.setattr(chain, "longest_form", lambda base, system: 99)
    plain = wanted(tmp_path)

    def served(longest: int, **parameters: int) -> object:
        asked = plain.model_copy(update={"parameters": parameters})
        rows = data.model_copy(update={"longest_answer": longest})
        return chain.served_parameters(asked, file, smallest_base, rows)["num_predict"]

    assert served(26) == 512
    assert served(100) == 800
    assert served(5000) == 4096  # the context
    assert served(26, num_predict=-1) == -1
