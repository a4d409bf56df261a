"""Which rows a version trained and which it was tested on; how often a test part has decided.

A record keeps both as base64 of the rows' names, six bytes each in their order: eight characters a
row. What an older program released is known as long as the store has its data.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator

from pipeline.made.artifacts import Dataset
from pipeline.made.conversations import Conversations
from pipeline.release.history import History
from pipeline.release.version import Version
from pipeline.run.store import Store
from pipeline.stages.preparing.groups import NAME, name
from pipeline.stages.preparing.split import Split

BYTES = NAME // 2


def names(data: Dataset, part: str) -> frozenset[str]:
    """Of the rows of `train`, `validation` or `test`, 12 hex digits each."""
    return frozenset(name(row["messages"]) for row in data.each(part))


def noted(rows: Iterable[str]) -> str:
    """Rows as a record keeps them."""
    return b64encode(bytes.fromhex("".join(sorted(rows)))).decode()


def read(note: str) -> frozenset[str]:
    """The rows that a record names."""
    digits = b64decode(note).hex()
    return frozenset(digits[i : i + NAME] for i in range(0, len(digits), NAME))


def trained(version: Version, store: Store) -> frozenset[str] | None:
    """What a version trained; None if neither its record nor the store knows it."""
    if version.trained:
        return read(version.trained)
    data = _data(version, store)
    return None if data is None else names(data, "train")


def not_tested(history: History | None, rows: Conversations, store: Store) -> tuple[str, ...]:
    """Rows that would be tested, had no version of this name trained them."""
    known = frozenset[str]().union(*_each_trained(history, store))
    return Split(rows.groups(), known).not_tested if known else ()


def times_decided(history: History | None, data: Dataset) -> int:
    """How many versions of a name were judged on half of these test rows or more.

    Removed ones too. Versions of before records knew their rows count where their data is the same.
    A candidate that is not in the history yet is not counted.
    """
    now = names(data, "test")
    if history is None or not now:
        return 0
    return sum(
        2 * len(now & read(each.tested)) >= len(now) if each.tested else each.data == data.digest
        for each in history.versions
    )


def _each_trained(history: History | None, store: Store) -> Iterator[frozenset[str]]:
    for version in history.versions if history else ():
        if (rows := trained(version, store)) is not None:
            yield rows


def _data(version: Version, store: Store) -> Dataset | None:
    found = (store.find(Dataset, stage) for stage in version.stages if stage.startswith("prepare-"))
    return next((one for one in found if one and one.digest == version.digests.get("data")), None)
