"""Train a LoRA adapter with Unsloth through TRL, on exactly the ids and labels of `prepare`.

The trainer's checkpoints lie in the draft: a killed run goes on from the last whole one. They hold
optimizer state in torch's own format, are read by nobody else, and are removed before sealing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.bases import families
from pipeline.common.errors import Missing, ToolFailed
from pipeline.made.artifacts import Adapter, Base, Dataset
from pipeline.made.sealed import StageRecord
from pipeline.made.stage import Stage, Where, known
from pipeline.stages.settings import CHARACTERS_PER_TOKEN, Tune
from pipeline.stages.tuning.batches import largest_pass
from pipeline.stages.tuning.callbacks import WHOLE
from pipeline.stages.tuning.keeping import FOLDER, Keeper, talks
from pipeline.stages.tuning.trainer import ROWS, trainer

ENOUGH_STEPS = 20  # of a run whose pace tells something: the first ones are slow
TOKENS_PER_SECOND = 200.0  # 2 cores, 135 million parameters; until this machine has measured
TOKENS_PER_TURN = 12  # that a chat template puts around a turn, about
START = 30.0  # seconds: imports, loading, the first step


def expected(settings: Tune, inputs: Mapping[str, Any], before: Sequence[StageRecord]) -> float:
    """At the pace of the last long run with this base; by the rows' length, until they are ids."""
    paces = (
        float(record.artifact.get("tokens_per_second", 0))
        for record in before
        if int(record.artifact.get("steps", 0)) >= ENOUGH_STEPS
    )
    guess = TOKENS_PER_SECOND * 135e6 / known(inputs["base"], "parameters")
    pace = next(filter(None, paces), guess)
    return START + _tokens(inputs["data"]) * settings.epochs / pace


def _tokens(data: Any) -> float:
    """Of all rows, once, about."""
    if (statistics := known(data, "statistics")) is None:
        return float(data.tokens)
    characters = statistics.characters
    characters += statistics.without_system * len(known(data, "system", ""))
    return float(characters / CHARACTERS_PER_TOKEN + TOKENS_PER_TURN * 2 * statistics.answers)


STAGE = Stage(
    "tune",
    version=1,
    settings=Tune,
    inputs={"base": Base, "data": Dataset},
    makes=Adapter,
    expected=expected,
    reads={"base": "training"},
    resumes=True,
)

A_WEIGHT_AND_TOKEN = 0.008  # bytes of activations kept for the way back, about (measured)
ACTIVATIONS = 1.2e9  # bytes; where they would take more, they are computed again instead


def run(out: Path, settings: Tune, base: Base, data: Dataset, *, where: Where) -> Adapter:
    """Train, keep the checkpoint with the lowest validation loss, check that nothing else moved.

    Raises:
        Missing: no GPU where one was asked for.
        ToolFailed: a loss, gradient or weight that is no number, or frozen weights that changed.
    """
    with _memory_of_the_gpu():
        some = talks(base, settings.system) if settings.keep else []
        longest = max([data.longest, 64, *(len(talk.ids) for talk in some)])
        model, tokenizer = _model(out, settings, base, longest, where)
        frozen = _checksum(model)
        began = time.monotonic()
        keeper = None
        if some:
            keeper = Keeper(some, settings.keep, out / FOLDER)
            keeper.remember(model, where)
        recompute = _recompute(settings, base, longest, where)
        teacher = trainer(out, settings, model, tokenizer, data, recompute, keeper, where)
        teacher.train(resume_from_checkpoint=_last_whole(out / "checkpoints"))
    seconds = time.monotonic() - began
    if _checksum(model) != frozen:
        raise ToolFailed("training changed weights of the base, not of the adapter alone")
    kept, loss = _kept(teacher)
    model.save_pretrained(str(out), safe_serialization=True)
    _refuse_not_finite(out / "adapter_model.safetensors", settings)
    _portable(out, base)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    shutil.rmtree(out / ROWS, ignore_errors=True)
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    shutil.rmtree(out / "unsloth_compiled_cache", ignore_errors=True)
    (out / "README.md").unlink(missing_ok=True)
    return Adapter.at(
        out,
        loss=loss,
        epochs=kept,
        steps=teacher.state.global_step,
        seconds=round(seconds, 1),
        tokens_per_second=round(teacher.pace.tokens_per_second, 1),
    )


def _model(out: Path, settings: Tune, base: Base, longest: int, where: Where) -> tuple[Any, Any]:
    """The base with fresh LoRA factors, as Unsloth makes it, for rows of so many tokens."""
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
        max_seq_length=longest,
        dtype=dtype,
        load_in_4bit=settings.load == "4-bit",
        trust_remote_code=False,
    )
    recompute = _recompute(settings, base, longest, where)
    model = FastLanguageModel.get_peft_model(
        model,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0,
        bias="none",
        target_modules=list(families.of(base.architecture).targets),
        use_gradient_checkpointing="unsloth" if recompute else False,
        random_state=settings.seed,
    )
    return model, tokenizer


@contextmanager
def _memory_of_the_gpu() -> Iterator[None]:
    """Turns a GPU that is full, while loading or while training, into what to do about it."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        import torch

        # the second one is what transformers says of 4-bit weights that do not fit
        if not isinstance(error, torch.OutOfMemoryError) and "enough GPU RAM" not in str(error):
            raise
        raise ToolFailed(
            "the GPU's memory is full",
            "Try --set tune.batch=1, then --set tune.load=4-bit, or --device cpu.",
        ) from error


def _recompute(settings: Tune, base: Base, longest: int, where: Where) -> bool:
    """True if activations are computed again on the way back: a third slower, far less memory."""
    tokens = largest_pass(settings.batch, longest)
    kept = tokens * base.parameters * A_WEIGHT_AND_TOKEN
    return where.device == "cuda" or kept > ACTIVATIONS


def _arithmetic(where: Where) -> Any:
    """bfloat16 or float32, whichever this CPU multiplies faster; bfloat16 on a GPU that has it.

    Measured once per machine and torch version, so that a later run computes alike.
    """
    import torch

    if where.device == "cuda":
        real = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if real else torch.float16
    from pipeline.common import places
    from pipeline.common.values import read_json, write_json

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


def _refuse_not_finite(path: Path, settings: Tune) -> None:
    """The last step may have spoiled what no loss was computed of any more."""
    import torch
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            if not bool(torch.isfinite(file.get_tensor(name)).all()):
                raise ToolFailed(
                    f"training has made {name} of the adapter NaN or infinite",
                    "Try a lower learning rate:"
                    f" --set tune.learning_rate={settings.learning_rate / 5:.1g}",
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
    """Take this machine's path out of the adapter's config: the base is known by its digest.

    Of what training reads of it, as the key holds it: no name, which each user gives as he likes.
    """
    from pipeline.common.values import read_json, write_json

    path = out / "adapter_config.json"
    config = read_json(path)
    config["base_model_name_or_path"] = base.digest_for("training")[:12]
    for unordered in ("target_modules",):
        config[unordered] = sorted(config[unordered])
    write_json(path, config)
