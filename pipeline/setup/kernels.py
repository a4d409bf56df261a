"""The quantizing kernels, compiled once for this CPU: half a minute that no run has to wait for."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.common import places
from pipeline.setup.packages import REQUIREMENTS, ROOT, VENV
from pipeline.setup.step import Step, Work

_SOURCES = ROOT / "pipeline" / "stages" / "packing"
_JOB = "from pipeline.stages.packing import kernels; kernels.compile_all()"


def kernels() -> Step:
    """numba's cache, filled."""
    return Step(
        "quantizing kernels",
        done=lambda: _stamp().exists(),
        run=_compile,
        seconds=40,
        space=((places.cache_home(), 0.1),),
    )


def _compile(work: Work) -> None:
    work.child([VENV / "bin" / "python", "-c", _JOB], {"PYTHONPATH": str(ROOT)})
    _stamp().touch()


def _stamp() -> Path:
    """In the cache, by what the compiled code depends on: numba, the CPU, our source."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes())
    for file in sorted(_SOURCES.glob("*.py")):
        key.update(file.read_bytes())
    return places.cache_home() / f"kernels-{key.hexdigest()[:8]}-{places.cpu_key()}"
