"""Off its subject a specialist is held to its base: on which texts, and how far it is from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made import specialist

from pipeline.made.stage import Where
from pipeline.stages.scoring import general
from pipeline.stages.tuning import keeping
from pipeline.stages.tuning.keeping import EVERY, Keeper, Talk, pairs, talks


class Model:
    """Foretells the next token by the one before, as a table of logits says."""

    device = "cpu"

    def __init__(self, table: Any) -> None:
        self.table = table

    def __call__(self, input_ids: Any, **_: Any) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])


def test_what_is_kept_is_not_what_forgetting_is_measured_by() -> None:
    asked = {item.question for item in general.items()}
    prompts = [prompt for prompt, _ in pairs()]
    assert len(prompts) == len(set(prompts)) == 64
    assert not asked & set(prompts)
    assert all(answer.strip() == answer and "\\" not in answer for _, answer in pairs())


def test_it_is_asked_as_the_specialist_is_served_and_without(tmp_path: Path) -> None:
    base = specialist(tmp_path, rows=20).base
    plain, told, *_ = talks(base, "Be odd.")
    without = talks(base, "")
    assert plain == without[0] and told != without[1]
    for talk in (plain, told):
        assert 0 < talk.start < len(talk.ids) - 1
        assert talk.ids[-1] == base.end_of_turn


def test_a_model_that_goes_on_as_its_base_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(keeping, "TOGETHER", 4)

    torch.manual_seed(0)
    base, other = (Model(torch.randn(9, 9)) for _ in range(2))
    some = [Talk([1, 2, 3, 4], 2), Talk([5, 6, 7], 1), Talk([8, 1], 1), Talk([2, 3, 5, 7, 1], 3)]
    keeper = Keeper(some, 0.5, tmp_path / "kept")
    keeper.remember(base, Where())
    assert float(keeper.loss(base, 0)) == pytest.approx(0, abs=1e-4)
    before = torch.tensor([token for talk in some for token in talk.ids[talk.start - 1 : -1]])
    p, q = (torch.log_softmax(model.table[before], -1) for model in (base, other))
    right = EVERY * 0.5 * (p.exp() * (p - q)).sum(-1).mean()
    assert float(keeper.loss(other, 0)) == pytest.approx(float(right), rel=1e-2)
    assert float(keeper.loss(other, EVERY)) == pytest.approx(float(right), rel=1e-2)
    assert [keeper.loss(other, step) for step in range(1, EVERY)] == [None] * (EVERY - 1)


def test_each_talk_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    keeper = Keeper([Talk([i, i], 1) for i in range(7)], 1, tmp_path)
    turns = [[keeper._at(7 * turn + i) for i in range(7)] for turn in range(3)]
    assert all(sorted(turn) == list(range(7)) for turn in turns)
    assert turns[0] != turns[1]
    assert turns == [[keeper._at(7 * turn + i) for i in range(7)] for turn in range(3)]
