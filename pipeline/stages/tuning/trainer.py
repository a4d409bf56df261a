"""TRL's trainer with our rows, our settings and our callbacks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pipeline.made.artifacts import Dataset
from pipeline.made.stage import Where
from pipeline.stages.settings import Tune
from pipeline.stages.tuning.batches import Padding, fitting, rows
from pipeline.stages.tuning.callbacks import pace, stop_at_nan, stop_rising
from pipeline.stages.tuning.keeping import Keeper
from pipeline.stages.tuning.neighbours import making_way

ROWS = "rows"  # the folder below `out` that they are read from
ROWS_PER_LOOK = 2000  # the validation loss is taken at least once in so many rows


def trainer(
    out: Path,
    settings: Tune,
    model: Any,
    tokenizer: Any,
    data: Dataset,
    recompute: bool,
    keeper: Keeper | None,
    where: Where,
) -> Any:
    """TRL's trainer over the two parts. Its `pace` knows how fast it was.

    Args:
        out: its checkpoints go below, and the rows that it reads.
        recompute: compute activations again on the way back.
        keeper: what keeps it near the base, where that is wanted.
    """
    from trl import SFTTrainer

    train = rows(data, "train", out / ROWS)
    held = rows(data, "validation", out / ROWS) if data.validation else None
    looks = max(1, math.ceil(len(train) / ROWS_PER_LOOK))
    made = fitting(SFTTrainer, keeper)(
        model=model,
        processing_class=tokenizer,
        args=_config(out, settings, model, len(train), looks, held is not None, recompute, where),
        train_dataset=train,
        eval_dataset=held,
        data_collator=Padding(tokenizer.pad_token_id or 0),
    )
    made.pace = pace(sum(train["length"]), where)
    made.add_callback(made.pace)
    made.add_callback(stop_at_nan(settings.learning_rate))
    if held is not None:
        made.add_callback(stop_rising(looks))
    if where.device == "cpu" and where.threads > 1:
        made.add_callback(making_way(where.threads))
    return made


def _config(
    out: Path,
    settings: Tune,
    model: Any,
    rows: int,
    looks: int,
    watched: bool,
    recompute: bool,
    where: Where,
) -> Any:
    """TRL's settings; with `watched`, `looks` validations an epoch choose the checkpoint."""
    from trl import SFTConfig

    steps = math.ceil(rows / settings.batch)
    every = math.ceil(steps / looks)
    watching: dict[str, Any] = {"eval_strategy": "no"}
    if watched:
        watching = {
            "eval_strategy": "steps",
            "eval_steps": every,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
            "restore_callback_states_from_checkpoint": True,  # how often the loss has risen
        }
    kinds = _dtypes(model)
    return SFTConfig(
        output_dir=str(out / "checkpoints"),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=min(10, steps),
        weight_decay=0.0,
        max_grad_norm=1.0,
        train_sampling_strategy="group_by_length",
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a NaN would be logged as a number
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=where.device == "cpu",
        bf16="bfloat16" in kinds,
        fp16="float16" in kinds,  # with loss scaling: small gradients would be 0
        gradient_checkpointing=recompute,  # TRL's own default is True
        report_to="none",
        disable_tqdm=True,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_num_workers=0,
        **watching,
    )


def _dtypes(model: Any) -> set[str]:
    """What the model's weights are held in."""
    return {str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()}
