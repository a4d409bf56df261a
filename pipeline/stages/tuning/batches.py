"""Batches that fit: no pass through the model holds more than a bounded number of tokens."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.made.artifacts import Dataset
from pipeline.stages.prepare import UNTRAINED
from pipeline.stages.settings import STEP_TOKENS
from pipeline.stages.tuning.keeping import Keeper

ROWS = 1000  # written at once
Batch = dict[str, Any]
"""Three tensors of shape (rows, longest row): input_ids, attention_mask, labels."""


def rows(data: Dataset, part: str, folder: Path) -> Any:
    """The trainer's rows: nothing but ids, labels and their length, read from the disk as needed.

    They are written to `folder` as an Arrow stream, which `datasets` maps into memory. The lengths
    are a column, so sorting rows of like length into batches reads nothing else.

    Returns: a `datasets.Dataset`.
    """
    import pyarrow as pa
    from datasets import Dataset as Rows

    numbers = pa.list_(pa.int32())
    schema = pa.schema({"input_ids": numbers, "labels": numbers, "length": pa.int32()})
    path = folder / f"{part}.arrow"
    folder.mkdir(exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        found = ((one["ids"], one["labels"]) for row in data.each(part) for one in row["sequences"])
        while some := list(islice(found, ROWS)):
            ids, labels = zip(*some, strict=True)
            columns = {"input_ids": ids, "labels": labels, "length": [len(one) for one in ids]}
            stream.write_batch(pa.record_batch(columns, schema=schema))
    return Rows.from_file(str(path))


def largest_pass(batch: int, longest: int) -> int:
    """Tokens of the largest pass, padding counted: a sequence is never cut."""
    return min(batch * longest, max(STEP_TOKENS, longest))


class Padding:
    """Pads a batch on the right: ids with the pad token, labels untrained."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list[dict[str, list[int]]]) -> Batch:
        """See `Batch`."""
        import torch

        longest = max(len(row["input_ids"]) for row in rows)

        def padded(values: list[list[int]], filler: int) -> Any:
            return torch.tensor([v + [filler] * (longest - len(v)) for v in values])

        return {
            "input_ids": padded([row["input_ids"] for row in rows], self.pad),
            "attention_mask": padded([[1] * len(row["input_ids"]) for row in rows], 0),
            "labels": padded([row["labels"] for row in rows], UNTRAINED),
        }


def passes(batch: Batch, most: int) -> list[Batch]:
    """The batch in parts of at most `most` tokens, padding counted, or of a single row.

    A batch that fits stays as it is. Else rows of like length go together, and each part is as wide
    as its own longest row.
    """
    rows, width = batch["input_ids"].shape
    if rows * width <= most or rows == 1:
        return [batch]
    lengths = batch["attention_mask"].sum(1)
    order = lengths.argsort(descending=True, stable=True)
    parts = []
    while len(order):
        longest = int(lengths[order[0]])
        taken, order = order.split([n := min(len(order), max(1, most // longest)), len(order) - n])
        parts.append({name: tensor[taken, :longest] for name, tensor in batch.items()})
    return parts


def trained_tokens(batch: Batch) -> Any:
    """How many of its tokens have a label that is predicted: the first one of a row is not."""
    return (batch["labels"][:, 1:] != UNTRAINED).sum()


def fitting(trainer: type[Any], keeper: Keeper | None = None) -> type[Any]:
    """TRL's trainer with a step that is taken in several passes where one would not fit.

    The gradient is the same: the loss of each pass is a sum over its tokens, divided by the number
    of trained tokens of the whole step.

    Args:
        keeper: its loss is added where it has one.
    """
    import torch

    class Fitting(trainer):  # type: ignore[misc]
        """Overrides what computes the loss of a batch, in training and in validation."""

        def training_step(self, model: Any, inputs: Batch, num_items_in_batch: Any = None) -> Any:
            found = self._own_rows(model, inputs, num_items_in_batch)
            if keeper and (far := keeper.loss(model, self.state.global_step)) is not None:
                self.accelerator.backward(far)
            return found

        def _own_rows(self, model: Any, inputs: Batch, num_items_in_batch: Any) -> Any:
            parts = passes(inputs, STEP_TOKENS)
            if len(parts) == 1:
                return super().training_step(model, inputs, num_items_in_batch)
            step = super().training_step
            trained = trained_tokens(inputs)
            return torch.stack([step(model, part, trained) for part in parts]).sum()

        def prediction_step(
            self, model: Any, inputs: Batch, prediction_loss_only: bool, ignore_keys: Any = None
        ) -> tuple[Any, None, None]:
            look = super().prediction_step
            parts = passes(inputs, STEP_TOKENS)
            if len(parts) == 1:
                return look(model, inputs, prediction_loss_only, ignore_keys)  # type: ignore[no-any-return]
            losses = [look(model, part, prediction_loss_only, ignore_keys)[0] for part in parts]
            shares = torch.stack([trained_tokens(part) for part in parts]).to(losses[0].device)
            return (torch.stack(losses) * shares).sum() / shares.sum(), None, None

    return Fitting
