"""A stage as CONTRIBUTING tells to add one: counts letters in the conversations."""

from __future__ import annotations

from pathlib import Path

from pipeline.made.artifacts import Artifact, Dataset
from pipeline.made.stage import Stage, Where
from pipeline.stages.settings import Settings


class Count(Settings):
    """What is counted."""

    letters: str


class Counted(Artifact):
    """A number, in a file."""

    FILES = ("count.txt",)

    found: int


STAGE = Stage(
    "toy",
    version=1,
    settings=Count,
    inputs={"data": Dataset},
    makes=Counted,
    expected=lambda settings, inputs, before: 1.0,
    module="toy",
)


def run(out: Path, settings: Count, data: Dataset, *, where: Where) -> Counted:
    """Count the letters in all turns."""
    parts = ("train", "validation", "test")
    turns = [t["content"] for part in parts for row in data.each(part) for t in row["messages"]]
    found = sum(text.count(letter) for text in turns for letter in settings.letters)
    (out / "count.txt").write_text(f"{found}\n")
    return Counted.at(out, found=found)
