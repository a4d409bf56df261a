"""A file of conversations, taken in: what the chain's first stage makes of it, in this process."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.intake.source import locate
from pipeline.made.conversations import Conversations
from pipeline.made.stage import Where
from pipeline.stages import intake
from pipeline.stages.settings import Intake


def taken_in(path: Path, folder: Path | None = None) -> Conversations:
    """The rows of a file, in a folder of their own."""
    out = folder or Path(tempfile.mkdtemp(dir=path.parent, prefix="intake-"))
    return intake.run(out, Intake(), locate(path), where=Where())
