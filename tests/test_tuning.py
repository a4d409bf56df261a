"""What happens between the trainer and the model: batches that fit, a NaN that is seen, threads."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.common.errors import ToolFailed
from pipeline.made.stage import Where
from pipeline.stages import tune
from pipeline.stages.settings import Tune
from pipeline.stages.tuning import batches, neighbours
from pipeline.stages.tuning.callbacks import OVERFLOWS, stop_at_nan

SETTINGS = Tune(epochs=1, learning_rate=1e-3, rank=8, alpha=8, batch=8, load="16-bit", seed=0)
foreign = pytest.mark.filterwarnings("ignore")  # transformers imports what warns


def batch(*lengths: int) -> batches.Batch:
    """Rows of these lengths, all ids different, the first two tokens of a row untrained."""
    ids, rows = iter(range(1, 10**6)), []
    for length in lengths:
        row = [next(ids) for _ in range(length)]
        rows.append({"input_ids": row, "labels": [-100, -100, *row[2:]]})
    return batches.Padding(0)(rows)


# no pass is larger than the bound


def test_a_batch_that_fits_is_not_touched() -> None:
    whole = batch(3, 9, 4, 9)
    parts = batches.passes(whole, 36)
    assert len(parts) == 1 and parts[0] is whole


@pytest.mark.parametrize("lengths", [(10, 3, 3, 3, 3, 9), (5,) * 40, (40, 2), (7, 50, 8, 60, 2)])
def test_in_parts_every_row_is_there_once_and_no_part_is_too_large(lengths) -> None:
    whole = batch(*lengths)
    parts = batches.passes(whole, 30)
    for part in parts:
        rows, width = part["input_ids"].shape
        assert rows * width <= 30 or rows == 1
        assert width == part["attention_mask"].sum(1).max()  # as wide as its longest row
        assert all(tensor.shape == (rows, width) for tensor in part.values())

    def rows_of(some: list[batches.Batch]) -> list[tuple[list[int], list[int]]]:
        return sorted(
            (ids[mask == 1].tolist(), labels[mask == 1].tolist())
            for part in some
            for ids, mask, labels in zip(
                part["input_ids"], part["attention_mask"], part["labels"], strict=True
            )
        )

    assert rows_of(parts) == rows_of([whole])


def test_long_rows_do_not_widen_short_ones() -> None:
    parts = batches.passes(batch(*[20] * 7, 6000), 8192)
    assert [tuple(part["input_ids"].shape) for part in parts] == [(1, 6000), (7, 20)]


def test_the_largest_pass_is_known_before_training() -> None:
    assert batches.largest_pass(8, 100) == 800
    assert batches.largest_pass(8, 6000) == 8192
    assert batches.largest_pass(8, 9000) == 9000  # a row is never cut


class Plain:
    """A trainer as transformers': the loss is a sum over trained tokens by their number."""

    def training_step(self, model: Any, inputs: batches.Batch, number: Any = None) -> Any:
        loss = self._loss(model, inputs, number)
        loss.backward()
        return loss.detach()

    def prediction_step(self, model: Any, inputs: batches.Batch, *_: Any) -> tuple[Any, None, None]:
        return self._loss(model, inputs, None).detach(), None, None

    def _loss(self, model: Any, inputs: batches.Batch, number: Any) -> Any:
        import torch

        labels = inputs["labels"][:, 1:].flatten()
        logits = model(inputs["input_ids"] % 11)[:, :-1].flatten(0, 1)
        total = torch.nn.functional.cross_entropy(
            logits, torch.where(labels < 0, labels, labels % 11), reduction="sum"
        )
        return total / (batches.trained_tokens(inputs) if number is None else number)


def test_a_step_in_parts_has_the_gradient_and_the_losses_of_the_whole(monkeypatch) -> None:
    import torch

    whole = batch(10, 3, 5, 30, 2, 9, 9)
    found = []
    for most in (10**6, 20):
        monkeypatch.setattr(batches, "STEP_TOKENS", most)
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(11, 4), torch.nn.Linear(4, 11)).double()
        trainer = batches.fitting(Plain)()
        loss = trainer.training_step(model, whole, batches.trained_tokens(whole))
        watched = trainer.prediction_step(model, whole, True)[0]
        found.append([loss, watched, *(parameter.grad for parameter in model.parameters())])
    assert len(batches.passes(whole, 20)) > 3
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


# a NaN is seen where it appears


def logged(step: int, *, fp16: bool = False, rate: float = 1e-3, **logs: float) -> None:
    state = SimpleNamespace(global_step=step, max_steps=92)
    stop_at_nan(rate).on_log(SimpleNamespace(fp16=fp16), state, None, logs=logs)


@foreign
@pytest.mark.parametrize("name", ["loss", "grad_norm", "eval_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_first_number_that_is_none_ends_training_and_names_its_step(name, value) -> None:
    logged(7, loss=1.0, grad_norm=2.0, eval_loss=3.0)
    with pytest.raises(ToolFailed, match=f"is {value} at step 7 of 92") as error:
        logged(7, **{"loss": 1.0, name: value})
    assert error.value.next_step.endswith("--set tune.learning_rate=0.0002")


@foreign
def test_in_the_first_step_it_is_not_the_learning_rate() -> None:
    with pytest.raises(ToolFailed, match="step 1 ") as error:
        logged(1, loss=math.nan)
    assert "base" in error.value.next_step and "rate" not in error.value.next_step


@foreign
def test_with_loss_scaling_a_gradient_may_overflow_but_not_for_ever() -> None:
    watch = stop_at_nan(1e-3)
    args, state = SimpleNamespace(fp16=True), SimpleNamespace(global_step=9, max_steps=92)
    for _ in range(OVERFLOWS - 1):
        watch.on_log(args, state, None, logs={"loss": 1.0, "grad_norm": math.inf})
    watch.on_log(args, state, None, logs={"loss": 1.0, "grad_norm": 1.0})
    with pytest.raises(ToolFailed, match="gradient is inf"):
        for _ in range(OVERFLOWS):
            watch.on_log(args, state, None, logs={"loss": 1.0, "grad_norm": math.inf})


def test_an_adapter_with_a_number_that_is_none_is_not_finished(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "adapter_model.safetensors"
    save_file({"fine": torch.ones(3), "layer.lora_B": torch.tensor([1.0, math.inf])}, path)
    with pytest.raises(ToolFailed, match=r"layer\.lora_B of the adapter") as error:
        tune._refuse_not_finite(path, SETTINGS)
    assert "0.0002" in error.value.next_step
    save_file({"fine": torch.ones(3)}, path)
    tune._refuse_not_finite(path, SETTINGS)


# a GPU that is full


def test_a_full_gpu_is_said_with_the_way_out_and_a_bug_keeps_its_trace() -> None:
    import torch

    for full in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        ValueError("Make sure you have enough GPU RAM to fit the quantized model."),
    ):
        with pytest.raises(ToolFailed, match="memory is full") as error, tune._memory_of_the_gpu():
            raise full
        assert "tune.load=4-bit" in error.value.next_step
    with pytest.raises(ValueError, match="a bug"), tune._memory_of_the_gpu():
        raise ValueError("a bug")


def test_a_gpu_that_is_full_while_the_base_is_loaded_is_said_too(monkeypatch, tmp_path) -> None:
    from types import SimpleNamespace

    import torch

    data: Any = SimpleNamespace(longest=100)

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tune, "_model", full)
    with pytest.raises(ToolFailed, match="memory is full"):
        tune.run(tmp_path, SETTINGS, None, data, where=None)


def test_a_gpu_that_only_emulates_bfloat16_computes_in_float16(monkeypatch) -> None:
    import torch

    def turing(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", turing)
    assert tune._arithmetic(Where(device="cuda")) == torch.float16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert tune._arithmetic(Where(device="cuda")) == torch.bfloat16


# as many threads as others leave cores


class Machine:
    """Four cores, of which others keep some busy, and a clock that is set by hand."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.time, self.ours, self.waited = root, 0.0, 0.0, 0.0
        self.ticks = {"user": 0.0, "nice": 0.0}
        (root / "proc").mkdir()
        monkeypatch.setattr(neighbours.time, "monotonic", lambda: self.time)
        monkeypatch.setattr(neighbours.time, "process_time", lambda: self.ours)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
        self.run(0.0, 0.0)

    def run(
        self,
        others: float,
        ours: float,
        seconds: float = 2.0,
        of: str = "user",
        waited: float = 0.0,
    ) -> None:
        """Let time pass: cores that others and we keep busy, and that our threads waited for."""
        self.time += seconds
        self.waited += waited * seconds
        for thread in ("11", "12"):
            (self.root / "proc/self/task" / thread).mkdir(parents=True, exist_ok=True)
            half = round(self.waited * 1e9 / 2)
            (self.root / "proc/self/task" / thread / "schedstat").write_text(f"5 {half} 7\n")
        self.ours += ours * seconds
        self.ticks["user"] += 100 * ours * seconds
        self.ticks[of] += 100 * others * seconds
        user, nice = int(self.ticks["user"]), int(self.ticks["nice"])
        (self.root / "proc/stat").write_text(
            f"cpu  {user} {nice} 0 9 0 0 0 0 0 0\n"
            f"cpu0 {user} {nice} 0 9 0 0 0 0 0 0\ncpu3 0 0 0 9 0 0 0 0 0 0\n"
            f"cpu7 {9 * user} 0 0 9 0 0 0 0 0 0\nintr 5\n"  # a core that is not ours
        )


@pytest.fixture
def four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("others", "threads"), [(0.0, 4), (0.3, 4), (0.5, 3), (1.0, 3), (1.9, 2), (3.0, 1), (4.0, 1)]
)
def test_a_thread_is_given_up_for_each_core_that_others_keep_busy(four, others, threads) -> None:
    watch = neighbours.Neighbours(4, four.root)
    four.run(others, ours=4 - others)
    assert watch.look() == threads


def test_it_is_taken_back_when_they_go(four) -> None:
    watch = neighbours.Neighbours(4, four.root)
    found = []
    for others in (0.0, 2.0, 2.0, 1.0, 0.0):
        four.run(others, ours=1.0)
        found.append(watch.look())
    assert found == [4, 2, 2, 3, 4]


def test_a_program_of_low_priority_is_a_neighbour_too(four) -> None:
    """A session has a core to itself whatever its priority, where the kernel groups by session."""
    watch = neighbours.Neighbours(4, four.root)
    four.run(2.0, ours=2.0, of="nice")
    assert watch.look() == 2


def test_one_that_takes_little_but_makes_all_wait_costs_one_thread(four) -> None:
    watch = neighbours.Neighbours(4, four.root)
    four.run(0.09, ours=3.9, of="nice", waited=0.1)
    assert watch.look() == 3
    four.run(1.0, ours=3.0, of="nice", waited=0.0)  # it has the core that was left to it
    assert watch.look() == 3
    four.run(0.0, ours=3.0)
    assert watch.look() == 4


def test_our_own_threads_that_wait_for_each_other_are_no_neighbour(four) -> None:
    watch = neighbours.Neighbours(4, four.root)
    four.run(0.01, ours=3.9, waited=0.3)
    assert watch.look() == 4


def test_within_a_second_nothing_is_read_again(four) -> None:
    watch = neighbours.Neighbours(4, four.root)
    four.run(4.0, ours=0.0, seconds=0.5)
    assert watch.look() == 4


def test_more_cores_than_threads_leave_room_for_neighbours(four) -> None:
    watch = neighbours.Neighbours(2, four.root)  # a container's quota, say
    four.run(2.0, ours=2.0)
    assert watch.look() == 2


def test_where_the_kernel_tells_nothing_all_threads_are_used(tmp_path: Path) -> None:
    watch = neighbours.Neighbours(2, tmp_path)
    watch.since = replace(watch.since, when=watch.since.when - 2)
    assert watch.look() == 2


@foreign
def test_torch_computes_with_as_many_threads_as_are_left(monkeypatch) -> None:
    import torch

    before = torch.get_num_threads()
    callback = neighbours.making_way(2)
    try:
        for wanted in (1, 2):
            monkeypatch.setattr(callback.neighbours, "look", lambda n=wanted: n)
            callback.on_step_begin(None, None, None)
            assert torch.get_num_threads() == wanted
    finally:
        torch.set_num_threads(before)
