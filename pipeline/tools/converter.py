"""The door to llama.cpp's converter: a Hugging Face directory to a GGUF, or to its outline."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.common import places
from pipeline.common.errors import Missing, ToolFailed
from pipeline.tools.children import PYTHON, environment, tied


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
    with called_the_same(source) as folder:
        run(tied([*PYTHON, str(script()), str(folder), *options]), source, out)


def script() -> Path:
    """The converter's own script.

    Raises:
        Missing: it is not on this machine.
    """
    found = places.llama_cpp() / "convert_hf_to_gguf.py"
    if not found.exists():
        raise Missing("llama.cpp's converter is not on this machine", "Run: make setup")
    return found


@contextmanager
def called_the_same(source: Path) -> Iterator[Path]:
    """The folder under one name: the converter writes words out of its name into the GGUF."""
    with TemporaryDirectory(prefix="convert-") as folder:
        same = Path(folder) / "model"
        same.symlink_to(source.absolute(), target_is_directory=True)
        yield same


def run(command: Sequence[str], source: Path, out: Path) -> None:
    """Run a command that makes `out` of `source`, with the converter's modules at hand.

    Raises:
        ToolFailed: its last words.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=_environment()
    )
    if done.returncode != 0 or not out.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ToolFailed(f"llama.cpp's converter failed on {source.name}: {last}")


def _environment() -> dict[str, str]:
    """The converter's own gguf-py and modules always, nothing written beside its source."""
    own = {"PYTHONPATH": str(places.llama_cpp()), "PYTHONDONTWRITEBYTECODE": "1"}
    return environment(own)
