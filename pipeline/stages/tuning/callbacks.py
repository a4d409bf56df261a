"""What is done between two steps: progress, the end when the loss rises, the end at a NaN."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from pipeline.common.errors import ToolFailed
from pipeline.common.progress import Progress
from pipeline.made.stage import Where

WHOLE = "whole"  # a file in a checkpoint that says it was written to its end
OVERFLOWS = 30  # steps that a loss scale may be halved: from 65,536 to nothing


def pace(tokens: int, where: Where) -> Any:
    """A callback: progress for people, and the mark on whole checkpoints.

    Args:
        tokens: of all rows that are trained, once.
    """
    from transformers import TrainerCallback

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


def stop_rising(patience: int) -> Any:
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


def stop_at_nan(rate: float) -> Any:
    """A callback: an error at the first step whose loss or gradient is no finite number.

    Raised before the step's checkpoint is written. With loss scaling (float16) a gradient that
    overflows is skipped and the scale is halved; only a row of such steps is an error then.

    Args:
        rate: the learning rate, to say a lower one.
    """
    from transformers import TrainerCallback

    class AtNan(TrainerCallback):  # type: ignore[misc]
        """Reads what is logged of every step."""

        overflows = 0

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            for name, title in NUMBERS.items():
                value = float((logs or {}).get(name, 0.0))
                if math.isfinite(value):
                    self.overflows = 0 if name == "grad_norm" else self.overflows
                    continue
                if name == "grad_norm" and args.fp16:
                    self.overflows += 1
                    if self.overflows < OVERFLOWS:
                        continue
                raise _not_finite(title, value, state.global_step, state.max_steps, rate)

    return AtNan()


NUMBERS = {"loss": "loss", "grad_norm": "gradient", "eval_loss": "validation loss"}


def _not_finite(title: str, value: float, step: int, of: int, rate: float) -> ToolFailed:
    what = f"the {title} is {value} at step {step} of {of}: nothing can be learned from there on"
    if step == 1:  # no weight has moved yet: the rate is innocent
        return ToolFailed(what, "The base itself computes no number on these rows: take another.")
    return ToolFailed(what, f"Try a lower learning rate: --set tune.learning_rate={rate / 5:.1g}")
