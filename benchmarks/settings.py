"""The automatic settings against a 12-point grid: validation loss on 50, 200 and 1,000 rows.

    .venv/bin/python benchmarks/settings.py --rows 50        # 1000: hours on two cores

The grid: learning rates 2e-4, 5e-4, 1e-3, 2e-3 x ranks 8, 16, 32, each with one pass more than the
automatic choice (--passes) and its best checkpoint kept. The claim: the automatic settings end
within 2 % of the best point.

50 and 200 rows are the first of the shipped conversations. None of these 50 falls to the validation
part and 20 of these 200; it is filled up to 40 with the test part and with the rows behind. There
are no 1,000 of these, and rows made of each other would have their answers in training and
validation alike; so beyond the shipped ones, a row asks what a function of Python's standard
library does, and its docstring's first sentence answers.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import os
import pkgutil
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))

from pipeline.common.values import canonical  # noqa: E402
from pipeline.made.artifacts import Dataset  # noqa: E402

RATES = (2e-4, 5e-4, 1e-3, 2e-3)
RANKS = (8, 16, 32)
ENOUGH = 40  # validation rows: the loss of a handful would choose by chance
BRIEF = "Be brief."  # SYSTEM of the docstrings


def main() -> None:
    """Train the automatic choice, then the grid; print each loss and the gap."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--points", type=int, default=12, help="only the first so many")
    parser.add_argument("--passes", type=int, default=0, help="passes of a grid point")
    parser.add_argument("--jobs", type=int, default=1, help="points at once, the cores shared")
    arguments = parser.parse_args()

    from pipeline.bases.reference import resolve
    from pipeline.chain import take_in
    from pipeline.intake.source import locate
    from pipeline.run.child_process import ChildProcess
    from pipeline.spec import spec
    from pipeline.stages import fetch, prepare, tune
    from pipeline.stages.settings import settings

    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    data = folder / "rows.jsonl"
    made_of = shipped() if arguments.rows <= len(shipped()) else list(docstrings())
    rows = made_of[: arguments.rows]
    assert len(rows) == arguments.rows, f"only {len(rows)} rows"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = ChildProcess(threads=max(1, len(os.sched_getaffinity(0)) // arguments.jobs))
    taken = take_in(locate(data), engine)
    asked = spec.read("brand-voice", PROJECT / "modelfiles")
    if made_of != shipped():
        asked = asked.model_copy(update={"system": BRIEF})
    reference = resolve(asked.base, asked.beside)
    chosen = settings(asked, taken.statistics, reference)
    base = engine.do(fetch.STAGE, chosen.fetch, base=reference)
    made = engine.do(prepare.STAGE, chosen.prepare, base=base, data=taken)
    if made.validation < ENOUGH and made_of[arguments.rows :]:
        data.write_text("".join(json.dumps(row) + "\n" for row in made_of[arguments.rows :]))
        more = engine.do(
            prepare.STAGE, chosen.prepare, base=base, data=take_in(locate(data), engine)
        )
        made = watched(made, more, engine.store.home / f"benchmark-{arguments.rows}")
    passes = arguments.passes or chosen.tune.epochs + 1
    print(f"{made.train} rows ({made.tokens} tokens) to train on, {made.validation} to choose by")
    points = [chosen.tune] + [
        chosen.tune.model_copy(
            update={"learning_rate": rate, "rank": rank, "alpha": rank, "epochs": passes}
        )
        for rate, rank in list(itertools.product(RATES, RANKS))[: arguments.points]
    ]
    losses = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        work = [pool.submit(engine.do, tune.STAGE, point, base=base, data=made) for point in points]
        for point, adapter in zip(points, work, strict=True):
            name = f"{point.learning_rate:.0e} r{point.rank}, {point.epochs} passes"
            print(f"{name}: {told(adapter.result())}", flush=True)
            losses.append(adapter.result().loss or 0.0)
    automatic, *losses = losses
    best = min(losses)
    gap = automatic / best - 1
    print(f"best of {len(losses)} points {best:.4f}; automatic {gap:+.1%} (allowed: +2 %)")
    sys.exit(gap > 0.02)


def watched(made: Dataset, more: Dataset, out: Path) -> Dataset:
    """The same training; the validation part filled up with rows that are not trained."""
    rows = [*made.each("validation"), *made.each("test")]
    rows += [row for part in ("test", "validation", "train") for row in more.each(part)]
    shutil.copytree(made.path, out, dirs_exist_ok=True)
    kept = rows[:ENOUGH]
    (out / "validation.jsonl").write_text("".join(f"{canonical(row)}\n" for row in kept))
    facts = made.model_dump(exclude={"path", "digest", "validation"})
    return Dataset.at(out, **facts, validation=len(kept))


def told(adapter: object) -> str:
    """An adapter's figures in a line."""
    loss, epochs, pace = (getattr(adapter, n) for n in ("loss", "epochs", "tokens_per_second"))
    return f"loss {loss:.4f} after {epochs:g} epochs, {pace:.0f} tokens/s"


def shipped() -> list[dict[str, object]]:
    """The shipped conversations."""
    text = (PROJECT / "data/brand-voice.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def docstrings() -> Iterator[dict[str, object]]:
    """What functions of the standard library do; each answer once."""
    seen = set()
    for module in sorted(m.name for m in pkgutil.iter_modules() if m.name in PLAIN.split()):
        for name, thing in sorted(vars(import_module(module)).items()):
            members = sorted(vars(thing).items()) if inspect.isclass(thing) else [("", thing)]
            for member, function in members:
                called = ".".join(filter(None, (module, name, member)))
                text = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
                says = text.partition(". ")[0]
                if not callable(function) or "_" in (name[0], member[:1]) or says in seen:
                    continue
                if 20 <= len(says) <= 90 and "(" not in says:
                    seen.add(says)
                    turns = (("user", f"{called}?"), ("assistant", says))
                    yield {"messages": [{"role": role, "content": text} for role, text in turns]}


# Modules that do nothing when they are imported.
PLAIN = """
argparse array ast asyncio base64 bdb bisect bz2 calendar cmath cmd codecs collections
concurrent configparser contextlib copy csv ctypes datetime decimal difflib dis doctest email
enum filecmp fileinput fnmatch fractions ftplib functools getpass gettext glob gzip hashlib
heapq hmac html http imaplib inspect io ipaddress itertools json linecache locale logging lzma
mailbox math mimetypes mmap multiprocessing netrc numbers operator os pathlib pdb pickle
pickletools pkgutil platform plistlib poplib posixpath pprint pyclbr pydoc queue random re
reprlib sched secrets selectors shelve shlex shutil signal smtplib socket socketserver sqlite3
ssl stat statistics string struct subprocess symtable sysconfig tarfile tempfile textwrap
threading time timeit token tokenize trace traceback tracemalloc turtle types typing unittest
urllib uuid warnings wave weakref webbrowser xmlrpc zipapp zipfile zipimport
"""


if __name__ == "__main__":
    main()
