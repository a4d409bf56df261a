"""The merge check: rounding passes, a real fault does not, and each text is judged once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import write_adapter

from pipeline.common.errors import ToolFailed
from pipeline.made.artifacts import Base, Dataset
from pipeline.stages.packing import comparison, tree
from pipeline.stages.packing.adapter import opened_adapter
from pipeline.stages.packing.merged import Merged
from pipeline.stages.packing.tree import UNTRAINED, Tree
from pipeline.stages.packing.weights import opened

foreign = pytest.mark.filterwarnings("default")  # transformers and peft import what warns
Change = Callable[[dict[str, Any]], dict[str, Any]]
ASKED, ANSWERED = [1, 40, 41, 42], [50, 51, 5]


def sequence(asked: list[int], answered: list[int]) -> tuple[list[int], list[int]]:
    return asked + answered, [UNTRAINED] * len(asked) + answered


def dataset(folder: Path, **parts: list[tuple[list[int], list[int]]]) -> Dataset:
    """Rows of one sequence each."""
    for part in ("train", "validation", "test"):
        rows = [{"ids": ids, "labels": labels} for ids, labels in parts.get(part, [])]
        lines = [json.dumps({"messages": [], "sequences": [row]}) + "\n" for row in rows]
        (folder / f"{part}.jsonl").write_text("".join(lines))
    counts = {part: len(parts.get(part, [])) for part in ("train", "validation", "test")}
    facts = {"rows": sum(counts.values()), "tokens": 1, "longest": 1, "longest_answer": 1}
    return Dataset.at(folder, uses_system=False, **counts, **facts)


def lines(*rows: list[float]) -> np.ndarray:
    """Logits of these probabilities."""
    return np.log(np.array(rows, np.float32))


# what is judged


def test_a_text_that_rows_share_is_read_and_judged_once():
    shared = list(range(10, 90))
    found = Tree()
    for row in range(12):
        found.add(*sequence([*shared, 100 + row], [200 + row, 5]))
    assert len(found.ids) == 80 + 12 * 3
    assert sum(found.trained) == 12 * 2  # after the question, and after one token of the answer
    assert max(found.depths) == 82


def test_the_same_row_twice_counts_as_one():
    one, two = Tree(), Tree()
    one.add(*sequence(ASKED, ANSWERED))
    for _ in range(2):
        two.add(*sequence(ASKED, ANSWERED))
    assert (one.ids, one.judged) == (two.ids, two.judged)


def test_a_token_sees_what_it_continues_and_nothing_else():
    found = Tree()
    found.add(*sequence([1, 2], [3]))
    found.add(*sequence([1, 4], [5]))
    assert found.ids == [1, 2, 3, 4, 5]
    assert [list(np.flatnonzero(row)) for row in found.seen()] == [
        [0], [0, 1], [0, 1, 2], [0, 3], [0, 3, 4],
    ]  # fmt: skip


def test_it_is_known_where_a_trained_token_follows():
    found = Tree()
    found.add(*sequence(ASKED, ANSWERED))
    assert found.judged == [0, 1, 2, 3, 4, 5, 6]
    assert found.trained == [False, False, False, True, True, True, False]


def test_each_trained_token_is_found_in_what_was_computed():
    found = Tree()
    found.add(*sequence([1, 2], [3, 4]))
    found.add(*sequence([1, 2], [3, 5]))
    found.add([1, 2, 3, 6], [UNTRAINED] * 3 + [6])
    rows = {node: row for row, node in enumerate(found.judged)}
    two, three = rows[found.ids.index(2)], rows[found.ids.index(3)]
    assert found.learned() == [(3, two), (4, three), (3, two), (5, three), (6, three)]


def test_what_the_served_file_is_held_to_is_bounded():
    found = Tree()
    for row in range(30):
        found.add(*sequence([1, 900 + row], list(range(100))))
    assert len(found.held) == tree.TOKENS // 102
    long = Tree()
    long.add(*sequence(list(range(1500)), [1]))
    assert len(long.held) == 1


def test_where_nothing_is_trained_all_positions_count():
    found = Tree()
    found.add(ASKED, [UNTRAINED] * 4)
    assert found.trained == [True] * 4


def test_of_a_long_context_some_is_judged_and_every_answer():
    found = Tree()
    found.add(*sequence(list(range(1900)), list(range(90))))
    assert tree.TOKENS / 2 < len(found.judged) <= tree.TOKENS
    assert sum(found.trained) == 90


def test_train_rows_help_where_the_test_part_has_few_trained_tokens(tmp_path):
    few = [sequence(ASKED, ANSWERED)]
    more = [sequence([1, 60 + i], list(range(100, 130))) for i in range(9)]
    assert sum(tree.probes(dataset(tmp_path, test=few, train=more)).trained) > tree.FEW
    assert sum(tree.probes(dataset(tmp_path, test=more, train=few)).trained) == 9 * 30


def test_no_more_is_read_than_it_needs(tmp_path):
    rows = [sequence([1, i], list(range(100, 120))) for i in range(1000)]
    found = tree.probes(dataset(tmp_path, test=rows))
    assert tree.ENOUGH <= sum(found.trained) < tree.ENOUGH + 20
    long = [sequence([i, *range(2, 900)], [5, 6]) for i in range(90)]
    assert len(tree.probes(dataset(tmp_path, test=long)).ids) <= tree.MOST


def test_of_a_text_longer_than_all_the_end_is_read_where_the_answer_is(tmp_path):
    long = [sequence(list(range(9000)), ANSWERED)]
    found = tree.probes(dataset(tmp_path, train=long))
    assert len(found.ids) == tree.MOST
    assert found.ids[-3:] == ANSWERED
    assert sum(found.trained) == 3


# what it weighs

TIE = ([0.41, 0.409, 0.181], [0.409, 0.41, 0.181])  # what rounding makes of it
CLEAR = ([0.999, 0.0005, 0.0005], [0.45, 0.54, 0.01])


def compared(
    before: tuple[list[float], list[float]], rest: int, *, trained: bool, merge_dtype: str = "F16"
) -> comparison.Agreement:
    """One position before a trained token or not, and others before trained ones that are alike."""
    alike = [[0.98, 0.01, 0.01]] * rest
    ours, theirs = lines(before[0], *alike), lines(before[1], *alike)
    return comparison.compare(ours, theirs, [trained, *[True] * rest], merge_dtype)


def test_a_tie_that_rounding_decides_otherwise_is_no_fault():
    found = compared(TIE, 9, trained=True)
    assert found.same_top == 0.9
    assert found.lost == pytest.approx(0.0001, rel=0.01)
    assert compared(TIE, 0, trained=True).same_top == 0


def test_another_clear_answer_is_a_fault_though_the_mean_hides_it():
    with pytest.raises(ToolFailed, match="is not base") as caught:
        compared(CLEAR, 200, trained=True)
    assert "report" in caught.value.next_step


def test_a_difference_in_the_context_alone_is_a_fault():
    with pytest.raises(ToolFailed, match=r"0\.0e\+00 of 200 before trained tokens"):
        compared(CLEAR, 200, trained=False)


def test_rounding_to_bfloat16_is_allowed_more_in_the_context_and_not_in_answers():
    coarse = ([0.6, 0.2, 0.2], [0.6, 0.26, 0.14])
    with pytest.raises(ToolFailed):
        compared(coarse, 1, trained=False)
    assert compared(coarse, 1, trained=False, merge_dtype="BF16").kl > 0.001
    with pytest.raises(ToolFailed) as caught:
        compared(coarse, 1, trained=True, merge_dtype="BF16")
    assert "--quantize Q8_0" in caught.value.next_step


def test_logits_that_are_no_numbers_are_no_agreement():
    with pytest.raises(ToolFailed, match="not base"):
        compared(([0.6, 0.2, 0.2], [np.nan] * 3), 3, trained=False)


# real weights


@pytest.fixture(scope="module")
def adapter(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapter") / "lora", tiny_base.path)


def agreement(
    base: Base, adapter: Path, change: Change = lambda loras: loras, merge_dtype: str = "F16"
) -> comparison.Agreement:
    """Compare with a merge of what `change` makes of the adapter."""
    found = Tree()
    random = np.random.default_rng(1)
    for _ in range(8):
        asked, answered = random.integers(6, 300, (2, 20)).tolist()
        found.add(*sequence([1, *range(40, 60), *asked], answered))
    with opened(base.weights) as weights, opened_adapter(adapter, weights) as loras:
        return comparison.check(
            base.path,
            adapter,
            found,
            partial(Merged(weights, {}).whole, kind="F32"),
            partial(Merged(weights, change(loras)).whole, kind=merge_dtype),
            merge_dtype,
        )


@pytest.mark.smoke
@foreign
def test_an_honest_merge_agrees(tiny_base, adapter):
    found = agreement(tiny_base, adapter)
    assert found.kl < 1e-5
    assert found.lost < 1e-5
    assert found.answers == 8 * 20


def weaker(loras: dict[str, Any]) -> dict[str, Any]:
    return {name: replace(lora, scale=lora.scale / 2) for name, lora in loras.items()}


def without(part: str) -> Change:
    return lambda loras: {name: lora for name, lora in loras.items() if part not in name}


@pytest.mark.smoke
@foreign
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda loras: {}, id="no adapter"),
        pytest.param(weaker, id="scaled by half"),
        pytest.param(without("layers.1.mlp.down_proj"), id="one module missing"),
        pytest.param(without("layers.0.self_attn.v_proj"), id="another one missing"),
        pytest.param(without("layers.1."), id="a layer missing"),
    ],
)
def test_a_wrong_merge_does_not(tiny_base, adapter, fault):
    with pytest.raises(ToolFailed, match="the merged model is not base"):
        agreement(tiny_base, adapter, fault)


def test_a_large_vocabulary_is_compared_after_fewer_tokens():
    assert [tree.rows_of(n) for n in (320, 128_256, 262_144)] == [tree.TOKENS, 523, 256]
    found = Tree(rows=10)
    for i in range(8):
        found.add(*sequence([1, 2, 100 + i], [40, 41, 42, 43, 44]))
    assert 0 < len(found.judged) <= 10
    assert all(found.trained)
    kept = [label for _, labels in found.held for label in labels if label != tree.UNTRAINED]
    # the loss of base + adapter and that of the served file are of the same tokens
    assert kept == [token for token, _ in found.learned()]
    assert 0 < len(kept) <= 10


@pytest.mark.smoke
@foreign
def test_what_each_text_is_compared_on_does_not_depend_on_the_others(tiny_base, adapter):
    """In one sequence with a mask, a token's logits are those of its own text alone."""
    import torch

    from pipeline.stages.packing.brought import brought, waiting
    from pipeline.stages.packing.comparison import _logits
    from pipeline.stages.packing.empty import empty

    texts = [sequence([1, 40, 41], [50, 5]), sequence([1, 40, 42, 43], [51, 5])]
    joined = Tree()
    for text in texts:
        joined.add(*text)
    model = empty(tiny_base.path).eval()
    with opened(tiny_base.weights) as weights:
        read = partial(Merged(weights, {}).whole, kind="F32")
        with brought(waiting(model), read):
            together = _logits(model, joined)
            alone = []
            for ids, _ in texts:
                with torch.no_grad():
                    alone.append(model(input_ids=torch.tensor([ids])).logits[0].numpy())
    wanted = [*alone[0], *alone[1][2:]]  # the first two tokens are there once
    assert np.allclose(together, np.stack(wanted), atol=1e-5)
