"""The documents say what the code does."""

from pathlib import Path

from pipeline.intake.fields import MEANS_NOTHING

DOCS = Path(__file__).parent.parent / "docs"


def test_the_list_of_fields_that_mean_nothing_is_whole() -> None:
    text = (DOCS / "rows.md").read_text(encoding="utf-8")
    listed = text.partition("**Fields that mean nothing**")[2].partition("So is every field")[0]
    for names in MEANS_NOTHING.values():
        assert [name for name in names if f"`{name}`" not in listed] == []
