"""The virtual environment: pip installs uv, uv the pinned set; our command; the bindings."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.common import places
from pipeline.setup import needs
from pipeline.setup.step import Step, Work

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements.txt"

# Starts through sh, because the line after #! may hold neither blanks nor 128 characters.
_SCRIPT = """#!/bin/sh
\'\'\'exec' "{python}" "$0" "$@"
\' \'\'\'
import sys
from pipeline.cli import main
sys.exit(main())
"""


def packages(device: str) -> Step:
    """The environment with everything that comes from a package registry."""
    return Step(
        "Python packages",
        done=lambda: _stamp("packages") == _key() and (VENV / "bin" / "python").exists(),
        run=_install,
        seconds=60,
        needs=(needs.venv, lambda: needs.gpu(device)),
        space=((ROOT, 6.5), (_uv_cache(), 6)),  # hard links on one disk: the rest is for the run
    )


def bindings() -> Step:
    """llama-cpp-python without compiling: it finds the library that is built beside."""
    return Step(
        "llama.cpp bindings",
        done=lambda: _stamp("bindings") == places.LLAMA_CPP_PYTHON + _key(),
        run=_bind,
        seconds=8,
    )


def environ() -> dict[str, str]:
    """For programs that look for cmake and ninja."""
    return {"PATH": f"{VENV / 'bin'}:{os.environ.get('PATH', '')}"}


def _install(work: Work) -> None:
    if not _usable():
        _emptied()
        work.child([sys.executable, "-m", "venv", VENV])
    version = re.search(r"^uv==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    assert version, "requirements.txt pins uv"
    pip: list[str | Path] = [VENV / "bin" / "pip", "--disable-pip-version-check", "--quiet"]
    work.child([*pip, "install", f"uv=={version[1]}"])
    work.child([*_uv(), "--no-deps", "-r", REQUIREMENTS], _index())  # complete: nothing to resolve
    _command()
    _write_stamp("packages", _key())


def _bind(work: Work) -> None:
    env = {**environ(), **_index(), "CMAKE_ARGS": "-DLLAMA_BUILD=OFF"}
    source = places.llama_source()
    work.child([*_uv(), "--no-deps", "--no-build-isolation", "--reinstall", source], env)
    _write_stamp("bindings", places.LLAMA_CPP_PYTHON + _key())


def _uv() -> list[str | Path]:
    return [VENV / "bin" / "uv", "pip", "install", "--python", VENV / "bin" / "python"]


def _emptied() -> None:
    """Remove an unusable environment's packages; keep bin/ollama, which another step may link."""
    shutil.rmtree(VENV / "lib", ignore_errors=True)
    for link in (VENV / "bin").glob("python*"):
        link.unlink()


def _usable() -> bool:
    """True if the environment was made here and its interpreter is still there."""
    pip = VENV / "bin" / "pip"
    try:
        return (VENV / "bin" / "python").exists() and str(VENV) in pip.read_text()
    except OSError:
        return False


def _command() -> None:
    """`.venv/bin/specialist`, and the clone on the environment's path."""
    script = VENV / "bin" / "specialist"
    script.write_text(_SCRIPT.format(python=VENV / "bin" / "python"))
    script.chmod(0o755)
    for folder in VENV.glob("lib/python3.*/site-packages"):
        (folder / "specialist.pth").write_text(f"{ROOT}\n")


def _index() -> dict[str, str]:
    """What pip was told about the package index, in uv's words; uv's own settings come first."""
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "cert": "SSL_CERT_FILE",
    }
    listed = subprocess.run(
        [VENV / "bin" / "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE)
    said = {names[key]: value for key, value in found if key in names}
    return {name: value for name, value in said.items() if name not in os.environ}


def _uv_cache() -> Path:
    return Path(os.environ.get("UV_CACHE_DIR") or needs.user_cache() / "uv")


def _key() -> str:
    """What the environment was made from, and where: it does not survive a move."""
    return hashlib.sha256(f"{VENV}\n{_SCRIPT}\n".encode() + REQUIREMENTS.read_bytes()).hexdigest()


def _stamp(name: str) -> str:
    try:
        return (VENV / f".{name}").read_text()
    except OSError:
        return ""


def _write_stamp(name: str, value: str) -> None:
    (VENV / f".{name}").write_text(value)
