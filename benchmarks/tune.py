"""Tokens per second of `tune` against a plain Unsloth + SFTTrainer script: same rows, base, batch.

    .venv/bin/python benchmarks/tune.py            # about six minutes on two cores

Both sides are whole processes, one after the other on the same machine, one epoch each, in turn
(ours, plain, plain, ours), so that a machine that warms up or is disturbed shows. Tokens are those
of the rows, without padding; seconds are those of the trainer, without imports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))

PLAIN = """
import json, os, sys, time
base, rows, batch, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
os.chdir(out)
from unsloth import FastLanguageModel
from datasets import Dataset
from trl import SFTConfig, SFTTrainer
model, tokenizer = FastLanguageModel.from_pretrained(base, max_seq_length=2048, load_in_4bit=False)
model = FastLanguageModel.get_peft_model(model, r=16, lora_alpha=16, random_state=0)
texts = [tokenizer.apply_chat_template(r, tokenize=False) for r in json.load(open(rows))]
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=Dataset.from_dict({"text": texts}),
    args=SFTConfig(
        output_dir=out, per_device_train_batch_size=batch, num_train_epochs=1,
        learning_rate=1e-3, report_to="none", save_strategy="no", logging_steps=1, seed=0,
    ),
)
began = time.monotonic()
trainer.train()
seconds = time.monotonic() - began
import resource
tokens = sum(len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
json.dump({"seconds": seconds, "tokens": tokens, "peak": peak}, open(out + "/result.json", "w"))
"""


def main() -> None:
    """Prepare once, train four times, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=PROJECT / "data/brand-voice.jsonl")
    parser.add_argument("--rows", type=int, default=0, help="only so many rows")
    parser.add_argument("--order", default="ours,plain,plain,ours")
    arguments = parser.parse_args()

    from pipeline.bases.chat_template import trained_messages
    from pipeline.bases.reference import resolve
    from pipeline.chain import take_in
    from pipeline.intake.source import locate
    from pipeline.run.child_process import ChildProcess
    from pipeline.spec import spec
    from pipeline.stages import fetch, prepare
    from pipeline.stages.settings import settings

    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    data = folder / "rows.jsonl"
    lines = arguments.data.read_text(encoding="utf-8").splitlines()
    data.write_text("\n".join(lines[: arguments.rows or None]) + "\n", encoding="utf-8")
    asked = spec.read("brand-voice", PROJECT / "modelfiles", sets=("tune.epochs=1",))
    shared = ChildProcess()
    taken = take_in(locate(data), shared)
    reference = resolve(asked.base, asked.beside)
    chosen = settings(asked, taken.statistics, reference)
    base = shared.do(fetch.STAGE, chosen.fetch, base=reference)
    made = shared.do(prepare.STAGE, chosen.prepare, base=base, data=taken)
    rows = folder / "train.json"
    trained = [trained_messages(row["messages"], asked.system) for row in made.each("train")]
    rows.write_text(json.dumps(trained), encoding="utf-8")

    print(f"{len(trained)} rows, {made.tokens} tokens, batch {chosen.tune.batch}, one epoch")
    for number, side in enumerate(arguments.order.split(",")):
        out = folder / f"{number}-{side}"
        out.mkdir()
        if side == "ours":
            result = ours(out, chosen.tune, base, made)
        else:
            result = plain(out, base.path, rows, chosen.tune.batch)
        pace = result["tokens"] / result["seconds"]
        print(
            f"{side:<6} {pace:6.0f} tokens/s  {result['seconds']:6.1f} s"
            f"  {result['peak'] / 1e9:4.1f} GB",
            flush=True,
        )


def ours(out: Path, tune_settings: object, base: object, made: object) -> dict[str, float]:
    """The stage in a store of its own: nothing is found, everything is made."""
    from pipeline.common.values import read_json
    from pipeline.run.child_process import ChildProcess
    from pipeline.run.store import Store
    from pipeline.stages import tune

    adapter = ChildProcess(Store(out)).do(tune.STAGE, tune_settings, base=base, data=made)  # type: ignore[arg-type]
    record = read_json(adapter.path / "record.json")
    return {
        "seconds": made.tokens / adapter.tokens_per_second,  # type: ignore[attr-defined]
        "tokens": made.tokens,  # type: ignore[attr-defined]
        "peak": record["made"]["peak_memory"],
    }


def plain(out: Path, base: Path, rows: Path, batch: int) -> dict[str, float]:
    """The script that one would write without us."""
    from pipeline.tools.children import QUIET

    script = out / "plain.py"
    script.write_text(PLAIN)
    import os

    subprocess.run(
        [sys.executable, str(script), str(base), str(rows), str(batch), str(out)],
        check=True,
        capture_output=True,
        env={**os.environ, **QUIET},
    )
    result: dict[str, float] = json.loads((out / "result.json").read_text())
    return result


if __name__ == "__main__":
    main()
