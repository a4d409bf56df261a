"""NAME.Modelfile: the text of the served model, for people and for `ollama create -f`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.common.values import whole
from pipeline.release import history
from pipeline.release.version import Version
from pipeline.spec.modelfile import Modelfile, lossy, render


def write_text(version: Version, gguf: Path | None, say: Callable[[str], None]) -> None:
    """Write what a version was registered with; where that is not known, there is no text.

    Args:
        gguf: its file in the store, None if it has gone.
    """
    path = history.file(version.name, "Modelfile")
    if gguf is None or version.system is None or version.license is None:
        path.unlink(missing_ok=True)
        return
    wanted = text(version, gguf.absolute())
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") == wanted:
        return
    with whole(path) as beside:
        beside.write_text(wanted, encoding="utf-8")
    for what, words in (("SYSTEM", version.system), ("LICENSE", version.license)):
        for loss in lossy(words):
            say(f"{path.name}: ollama create would read {what} differently: {loss}.")


def text(version: Version, gguf: Path) -> str:
    """A Modelfile of what a version was registered with."""
    said = Modelfile(
        base=str(gguf),
        system=version.system or "",
        parameters=version.parameters or {},
        license=version.license or "",
    )
    return render(said)
