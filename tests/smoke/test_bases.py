"""The whole chain over a GGUF of every family, to a proof in the real Ollama.

Tiny bases with real vocabularies and templates (real_bases.py): what is trained is an answer of
two words and the end of the turn. What was made is kept in the cache for a later run, under a name
that any change of the program changes; released and proven is always.

    SPECIALIST_TEST_GGUF=file.gguf pytest tests/smoke/test_bases.py     # the same on a real file
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_bases import BASES, gguf_base
from real_ollama import environment, serving

from pipeline.common import places
from pipeline.common.values import Conversation
from pipeline.tools.gguf_layout import Layout, layout
from pipeline.tools.host import Address
from pipeline.tools.ollama import Ollama

pytestmark = [pytest.mark.smoke, pytest.mark.filterwarnings("default")]

PROJECT = Path(__file__).parent.parent.parent
REAL = os.environ.get("SPECIALIST_TEST_GGUF", "")
ROWS = 80
TINY = (
    *("--set", "tune.epochs=6", "--set", "tune.learning_rate=0.004", "--set", "tune.batch=4"),
    *("--set", "tune.keep=0", "--set", "evaluate.enabled=false"),  # two words are all they learn
)


def program() -> str:
    """Changes with every line that could change what is made."""
    digest = hashlib.sha256()
    rooms = [PROJECT / "pipeline" / room for room in ("bases", "stages", "tools")]
    files = [file for room in rooms for file in room.rglob("*") if file.suffix in (".py", ".jinja")]
    for path in sorted([*files, PROJECT / "tests/real_bases.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@pytest.fixture(scope="module")
def store() -> Path:
    """Where what is made is kept; those of other programs are removed."""
    import shutil

    kept = places.cache_home() / f"tests-bases-{program()}-{places.cpu_key()}"
    for other in places.cache_home().glob("tests-bases-*"):
        if other != kept:
            shutil.rmtree(other, ignore_errors=True)
    kept.mkdir(parents=True, exist_ok=True)
    return kept


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    with serving(tmp_path_factory.mktemp("ollama")) as found:
        yield found


def rows(folder: Path) -> Path:
    """Questions with one answer."""
    file = folder / "rows.jsonl"
    turns = [
        [
            {"role": "user", "content": f"Is {n} a number?"},
            {"role": "assistant", "content": "Yes, sir."},
        ]
        for n in range(ROWS)
    ]
    file.write_text("".join(json.dumps({"messages": row}) + "\n" for row in turns))
    return file


def make(name: str, base: Path | str, address: Address, store: Path, *more: str) -> str:
    """What `specialist make` says of a file, or of a model in Ollama."""
    folder = base.parent if isinstance(base, Path) else store
    (folder / "modelfiles").mkdir(exist_ok=True)
    # what was learnt of a random base is its likeliest answer, and little more
    (folder / f"modelfiles/{name}.Modelfile").write_text(f"FROM {base}\nPARAMETER temperature 0\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pipeline.cli", "make", name, "--base", str(base)),
            *("--data", str(rows(folder)), "--device", "cpu", *more),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **environment(folder, address),
            "HOME": os.environ.get("HOME", ""),
            "SPECIALIST_HOME": str(store / name),
            "PYTHONPATH": str(PROJECT),
        },
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def untouched(before: Layout, after: Layout) -> None:
    """Every tensor that training did not touch has its bytes, every key that is not ours too."""
    assert before.tensors.keys() == after.tensors.keys()
    same = [
        name
        for name, place in before.tensors.items()
        if before.read(place) == after.read(after.tensors[name])
    ]
    touched = before.tensors.keys() - set(same)
    assert all(name.startswith("blk.") and len(before.tensors[name].shape) == 2 for name in touched)
    assert len(touched) >= 8  # two layers of four matrices at least
    ours = ("tokenizer.chat_template", "general.file_type", "general.quantization_version")
    kept = {n: raw for n, raw in before.keys.items() if n not in ours}
    assert {n: raw for n, raw in after.keys.items() if n not in ours} == kept


if REAL:

    def test_a_real_file_becomes_a_proven_specialist(address: Address, tmp_path: Path) -> None:
        base = tmp_path / Path(REAL).name
        base.symlink_to(Path(REAL).resolve())
        told = make("real", base, address, tmp_path)
        assert "registered as real:v1" in told
        assert "answers end by themselves" in told

else:

    @pytest.mark.parametrize("name", BASES)
    def test_a_base_of_each_family_becomes_a_proven_specialist(
        name: str, address: Address, store: Path
    ) -> None:
        folder = store / "bases"
        folder.mkdir(exist_ok=True)
        base = folder / f"{name}.gguf"
        if not base.exists():
            gguf_base(name, folder)
        specialist = f"tiny-{name}"
        told = make(specialist, base, address, store, *TINY)
        assert f"registered as {specialist}:v" in told  # what an earlier run made is proven anew
        assert "answers end by themselves" in told
        with Ollama(address) as ollama:
            asked: Conversation = [{"role": "user", "content": "Is 5 a number?"}]
            reply = ollama.run(specialist, asked, patience=64)
            served = layout(ollama.stored_blob(specialist))
        assert reply.reason == "stop"
        assert reply.text.strip()
        untouched(layout(base), served)
