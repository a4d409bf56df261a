"""The door to llama.cpp's converter: a Hugging Face directory to a GGUF, or to its outline."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline import places
from pipeline.errors import Missing, ToolFailed
from pipeline.tools import outline
from pipeline.tools.children import PYTHON, environment, module, tied


def convert(source: Path, out: Path, *, outtype: str = "bf16", name: str = "") -> None:
    """Turn a Hugging Face directory into a GGUF.

    Args:
        outtype: what the converter calls the type of matrices: f32, f16, bf16, q8_0.
        name: goes into the GGUF's keys.

    Raises:
        ToolFailed: the converter's last words.
    """
    options = ["--outfile", str(out.absolute()), "--outtype", outtype]
    options += ["--model-name", name] if name else []
    with _always_called_the_same(source) as folder:
        _run(tied([*PYTHON, str(_script()), str(folder), *options]), source, out)


def write_outline(source: Path, vocab: Path, out: Path, *, name: str) -> outline.Outline:
    """Write what `convert` would make of a directory, without its weights.

    Args:
        vocab: gets all keys and no tensor, as with the converter's --vocab-only.
        out: gets the outline.
        name: goes into the keys.

    Raises:
        ToolFailed: the converter's last words.
    """
    _script()
    with _always_called_the_same(source) as folder:
        job = [str(folder), name, str(vocab), str(out)]
        _run(module("pipeline.tools.outlining", *job), source, out)
    return outline.read(out)


def _script() -> Path:
    script = places.llama_cpp() / "convert_hf_to_gguf.py"
    if not script.exists():
        raise Missing("llama.cpp's converter is not on this machine", "Run: make setup")
    return script


@contextmanager
def _always_called_the_same(source: Path) -> Iterator[Path]:
    """The folder under one name: the converter writes words out of its name into the GGUF."""
    with TemporaryDirectory(prefix="convert-") as folder:
        same = Path(folder) / "model"
        same.symlink_to(source.absolute(), target_is_directory=True)
        yield same


def _run(command: Sequence[str], source: Path, out: Path) -> None:
    run = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=_environment()
    )
    if run.returncode != 0 or not out.exists():
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise ToolFailed(f"llama.cpp's converter failed on {source.name}: {last}")


def _environment() -> dict[str, str]:
    """The converter's own gguf-py and modules always, nothing written beside its source."""
    own = {"PYTHONPATH": str(places.llama_cpp()), "PYTHONDONTWRITEBYTECODE": "1"}
    return environment(own)
