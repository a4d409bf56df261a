"""Train a LoRA adapter with Unsloth through TRL, on exactly the ids and labels of `prepare`.

The trainer's checkpoints lie in the draft: a killed run goes on from the last whole one. They hold
optimizer state in torch's own format, are read by nobody else, and are removed before sealing.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.artifacts import Adapter, Base, Dataset
from pipeline.errors import Missing, ToolFailed
from pipeline.settings import Tune
from pipeline.stage import Progress, Stage, Where
from pipeline.stages.prepare import UNTRAINED

STAGE = Stage("tune", version=1, makes=Adapter, resumes=True)

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ROWS_PER_LOOK = 2000  # the validation loss is taken at least once in so many rows
A_WEIGHT_AND_TOKEN = 0.008  # bytes of activations kept for the way back, about (measured)
ACTIVATIONS = 1.2e9  # bytes; where they would take more, they are computed again instead
WHOLE = "whole"  # a file in a checkpoint that says it was written to its end


def run(out: Path, settings: Tune, base: Base, data: Dataset, *, where: Where) -> Adapter:
    """Train, keep the checkpoint with the lowest validation loss, check that nothing else moved.

    Raises:
        Missing: no GPU where one was asked for.
        ToolFailed: a loss that is no number, or frozen weights that changed.
    """
    model, tokenizer = _model(out, settings, base, data, where)
    frozen = _checksum(model)
    began = time.monotonic()
    recompute = _recompute(settings, base, data, where)
    trainer = _trainer(out, settings, model, tokenizer, data, recompute, where)
    with _memory_of_the_gpu():
        trainer.train(resume_from_checkpoint=_last_whole(out / "checkpoints"))
    seconds = time.monotonic() - began
    _check_losses(trainer.state.log_history)
    if _checksum(model) != frozen:
        raise ToolFailed("training changed weights of the base, not of the adapter alone")
    kept, loss = _kept(trainer)
    model.save_pretrained(str(out), safe_serialization=True)
    _portable(out, base)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    shutil.rmtree(out / "unsloth_compiled_cache", ignore_errors=True)
    (out / "README.md").unlink(missing_ok=True)
    return Adapter.at(
        out,
        loss=loss,
        epochs=kept,
        steps=trainer.state.global_step,
        seconds=round(seconds, 1),
        tokens_per_second=round(trainer.pace.tokens_per_second, 1),
    )


def _model(out: Path, settings: Tune, base: Base, data: Dataset, where: Where) -> tuple[Any, Any]:
    """The base with fresh LoRA factors, as Unsloth makes it."""
    os.environ["OMP_NUM_THREADS"] = str(where.threads)
    os.chdir(out)  # Unsloth writes its compiled cache into the working directory
    import torch
    from unsloth import FastLanguageModel  # first: it patches the others

    if where.device == "cpu":
        torch.set_num_threads(where.threads)
    elif not torch.cuda.is_available():
        raise Missing("torch finds no usable GPU", "Run with --device cpu, or check the driver.")
    dtype = _arithmetic(where)
    where.say(f"training on the {where.device.upper()} in {str(dtype).removeprefix('torch.')}")
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(base.path),
        max_seq_length=max(data.longest, 64),
        dtype=dtype,
        load_in_4bit=settings.load == "4-bit",
        trust_remote_code=False,
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0,
        bias="none",
        target_modules=TARGETS,
        use_gradient_checkpointing="unsloth" if _recompute(settings, base, data, where) else False,
        random_state=settings.seed,
    )
    return model, tokenizer


@contextmanager
def _memory_of_the_gpu() -> Iterator[None]:
    """Turns a GPU that is full into what to do about it."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ToolFailed(
            "the GPU's memory is full",
            "Try --set tune.batch=1, then --set tune.load=4-bit, or --device cpu.",
        ) from error


def _recompute(settings: Tune, base: Base, data: Dataset, where: Where) -> bool:
    """True if activations are computed again on the way back: a third slower, far less memory."""
    kept = settings.batch * data.longest * base.parameters * A_WEIGHT_AND_TOKEN
    return where.device == "cuda" or kept > ACTIVATIONS


def _trainer(
    out: Path,
    settings: Tune,
    model: Any,
    tokenizer: Any,
    data: Dataset,
    recompute: bool,
    where: Where,
) -> Any:
    """TRL's trainer over the two parts, with our callback."""
    from datasets import Dataset as Rows
    from trl import SFTConfig, SFTTrainer

    train = _sequences(data, "train")
    held = _sequences(data, "validation") if data.validation else None
    steps = math.ceil(len(train) / settings.batch)
    looks = max(1, math.ceil(len(train) / ROWS_PER_LOOK))
    every = math.ceil(steps / looks)
    watched: dict[str, Any] = {"eval_strategy": "no"}
    if held:
        watched = {
            "eval_strategy": "steps",
            "eval_steps": every,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
            "restore_callback_states_from_checkpoint": True,  # how often the loss has risen
        }
    config = SFTConfig(
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
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=where.device == "cpu",
        bf16=_is_bfloat16(model),
        gradient_checkpointing=recompute,  # TRL's own default is True
        report_to="none",
        disable_tqdm=True,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_num_workers=0,
        **watched,
    )
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=config,
        train_dataset=Rows.from_list(train),
        eval_dataset=Rows.from_list(held) if held else None,
        data_collator=_Padding(tokenizer.pad_token_id or 0),
    )
    pace = _pace(train, where)
    trainer.pace = pace
    trainer.add_callback(pace)
    if held:
        trainer.add_callback(_stop(looks))
    return trainer


def _sequences(data: Dataset, part: str) -> list[dict[str, list[int]]]:
    """The trainer's rows: nothing but ids and labels."""
    return [
        {"input_ids": sequence["ids"], "labels": sequence["labels"]}
        for row in data.part(part)
        for sequence in row["sequences"]
    ]


class _Padding:
    """Pads a batch on the right: ids with the pad token, labels untrained."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, Any]:
        """Three tensors of shape (rows, longest row)."""
        import torch

        longest = max(len(row["input_ids"]) for row in rows)

        def padded(values: list[list[int]], filler: int) -> Any:
            return torch.tensor([v + [filler] * (longest - len(v)) for v in values])

        return {
            "input_ids": padded([row["input_ids"] for row in rows], self.pad),
            "attention_mask": padded([[1] * len(row["input_ids"]) for row in rows], 0),
            "labels": padded([row["labels"] for row in rows], UNTRAINED),
        }


def _pace(train: list[dict[str, list[int]]], where: Where) -> Any:
    """A callback: progress for people, and the mark on whole checkpoints."""
    from transformers import TrainerCallback

    tokens = sum(len(row["input_ids"]) for row in train)

    class Pace(TrainerCallback):  # type: ignore[misc]
        """Counts steps since this process began; tokens without padding."""

        tokens_per_second = 0.0
        first = 0
        began = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.first, self.began = state.global_step, time.monotonic()
            if self.first:
                where.say(f"going on from step {self.first} of {state.max_steps}")

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            logs = logs or {}
            if "eval_loss" in logs:
                where.say(f"epoch {state.epoch:.3g}: validation loss {logs['eval_loss']:.4f}")
            elif "loss" in logs:
                a_step = tokens * args.num_train_epochs / max(state.max_steps, 1)
                done = (state.global_step - self.first) * a_step
                self.tokens_per_second = done / max(time.monotonic() - self.began, 1e-9)
                step = f"step {state.global_step}/{state.max_steps}"
                pace = f"{self.tokens_per_second:.0f} tokens/s"
                note = f"{step}, loss {float(logs['loss']):.3f}, {pace}"
                where.report(Progress(state.global_step, state.max_steps, note))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()

    return Pace()


def _stop(patience: int) -> Any:
    """A callback: the end, when the validation loss has not fallen for `patience` looks.

    Transformers' own forgets what it saw when a run is killed; this one reads the trainer's log,
    which the checkpoint holds, so that a run that goes on ends where a whole one does.
    """
    from transformers import TrainerCallback

    class Stop(TrainerCallback):  # type: ignore[misc]
        """Looks after each validation, and before the first step for a run that goes on."""

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
            if losses and len(losses) - 1 - losses.index(min(losses)) >= patience:
                control.should_training_stop = True

        on_train_begin = on_evaluate

    return Stop()


def _arithmetic(where: Where) -> Any:
    """bfloat16 or float32, whichever this CPU multiplies faster; bfloat16 on a GPU that has it.

    Measured once per machine and torch version, so that a later run computes alike.
    """
    import torch

    if where.device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    from pipeline import places
    from pipeline.values import read_json, write_json

    memo = places.cache_home() / f"arithmetic-{places.cpu_key()}-torch-{torch.__version__}.json"
    if not memo.exists():
        seconds = {name: _multiply(getattr(torch, name)) for name in ("bfloat16", "float32")}
        write_json(memo, {"faster": min(seconds, key=lambda n: seconds[n]), "seconds": seconds})
    return getattr(torch, read_json(memo)["faster"])


def _multiply(dtype: Any) -> float:
    """Seconds of the fastest of five matrix products the size of a small model's layer."""
    import torch

    x, w = torch.ones(512, 1024, dtype=dtype), torch.ones(2048, 1024, dtype=dtype)

    def once() -> float:
        began = time.perf_counter()
        torch.nn.functional.linear(x, w)
        return time.perf_counter() - began

    once()
    return min(once() for _ in range(5))


def _is_bfloat16(model: Any) -> bool:
    import torch

    return any(p.dtype == torch.bfloat16 for p in model.parameters())


def _frozen(model: Any) -> Iterator[tuple[str, Any]]:
    """Names and weights that training must not touch."""
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            yield name, parameter


def _checksum(model: Any) -> str:
    """sha256 over the frozen weights as they lie in memory."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in _frozen(model):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _last_whole(checkpoints: Path) -> str | None:
    """The newest checkpoint that was written to its end; the others are removed."""
    whole = []
    for path in checkpoints.glob("checkpoint-*"):
        if (path / WHOLE).exists():
            whole.append(path)
        else:
            shutil.rmtree(path)
    newest = max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    return str(newest) if newest else None


def _check_losses(history: list[dict[str, Any]]) -> None:
    for entry in history:
        for name in ("loss", "eval_loss"):
            if name in entry and not math.isfinite(float(entry[name])):
                raise ToolFailed(
                    f"the {name.replace('eval_', 'validation ')} is {entry[name]}"
                    f" at step {entry['step']}",
                    "Try a lower learning rate, as in --set tune.learning_rate=2e-4.",
                )


def _kept(trainer: Any) -> tuple[float, float | None]:
    """Epochs and validation loss of the checkpoint whose weights the model now holds."""
    state = trainer.state
    if state.best_metric is None:
        return float(state.epoch), None
    for entry in state.log_history:
        if entry.get("eval_loss") == state.best_metric:
            return round(float(entry["epoch"]), 3), round(float(state.best_metric), 5)
    raise RuntimeError("the trainer's best loss is not in its log")


def _portable(out: Path, base: Base) -> None:
    """Take this machine's path out of the adapter's config: the base is known by its digest."""
    from pipeline.values import read_json, write_json

    path = out / "adapter_config.json"
    config = read_json(path)
    config["base_model_name_or_path"] = base.name
    for unordered in ("target_modules",):
        config[unordered] = sorted(config[unordered])
    write_json(path, config)
