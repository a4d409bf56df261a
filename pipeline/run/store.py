"""Finished stage directories by key: found, sealed, leased, swept.

    <home>/stages/<name>-<key>/         whole: its record.json was written last, then one rename
    <home>/stages/<name>-<key>.draft/   being made, or left by a run that was killed
    <home>/stages/<name>-<key>.damaged/ a finished one whose files or record were damaged
    <home>/stages/<name>-<key>.lock     held by the process that writes; never removed
    <home>/stages/<name>-<key>.*.log    what a run's process printed, until it has ended well
    <home>/found/<kind>-<digest>.json   where an input of the user's lies on this machine

How a stage is made is an engine's business (`engine.py`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel

from pipeline.common import places, private, records
from pipeline.common.errors import Missing, OtherFormat
from pipeline.common.values import digest_of, write_json
from pipeline.made import sealed
from pipeline.made.artifacts import Artifact
from pipeline.made.sealed import StageRecord
from pipeline.made.stage import Stage
from pipeline.run.lease import Lease, leased, turn

A = TypeVar("A", bound=Artifact)
V = TypeVar("V", bound=BaseModel)
_OURS = re.compile(r"([a-z]+-[0-9a-f]{16})(\.draft|\.damaged)?")
_LOG = re.compile(r"[a-z]+-[0-9a-f]{16}(\.\d+-\d+)?\.log")


class Found(BaseModel):
    """An input that no stage made: a base or a file of the user's, as this machine knows it."""

    format: int = records.FORMAT
    value: dict[str, Any]


class Store:
    """Finished stage directories under `root`/stages."""

    def __init__(self, root: Path | None = None) -> None:
        self.home = root or places.home()
        self.root = self.home / "stages"
        self._leases = self.home / "leases"
        self._lease: Lease | None = None
        self._holders = 0
        self._guard = Lock()  # several threads may use one store

    def path(self, name: str) -> Path:
        """Where the finished directory NAME-KEY lies, or would lie."""
        return self.root / name

    def find(self, kind: type[A], name: str) -> A | None:
        """The finished artifact, None if it is still to be made.

        Raises:
            OtherFormat: another version of this program made it.
        """
        if self._lease:
            self._lease.add(name)
        return sealed.load(kind, self.path(name))

    def first(self, kind: type[A], names: Iterable[str]) -> A | None:
        """The first finished artifact under one of these names.

        Raises:
            OtherFormat: as for `find`.
        """
        found = (self.find(kind, name) for name in names)
        return next((artifact for artifact in found if artifact), None)

    def note(self, value: BaseModel) -> str:
        """Keep where an input of the user's lies; the name by which a job calls it."""
        found, name = Found(value=value.model_dump(mode="json")), _noted(value)
        if self._lease:
            self._lease.add(name)
        file = private.folder(self.home / "found") / f"{name}.json"
        if not file.exists():
            write_json(file, found.model_dump(mode="json"))
        return name

    def noted(self, value: BaseModel) -> bool:
        """True if `note` was called with this value, and nothing has removed it since."""
        return (self.home / "found" / f"{_noted(value)}.json").exists()

    def input(self, kind: type[V], name: str) -> V:
        """What a job calls by a name: a finished directory's artifact, or what was noted.

        Raises:
            Missing: it has gone from the store.
        """
        if issubclass(kind, Artifact) and (artifact := sealed.load(kind, self.path(name))):
            return artifact
        found = records.read(self.home / "found" / f"{name}.json", Found)
        if found is None:
            raise Missing(f"{name} has gone from the store", "Run the same command again.")
        return kind.model_validate(found.value)

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Until the block ends, nothing removes what is found or made in it."""
        with self._guard:
            self._lease = self._lease or Lease(self._leases)
            self._holders += 1
        try:
            yield
        finally:
            with self._guard:
                self._holders -= 1
                if not self._holders:
                    self._lease.end()
                    self._lease = None

    def records(self, stage: Stage[A]) -> Iterator[tuple[Path, StageRecord]]:
        """The finished directories of a stage with their records, the newest first."""
        found = []
        for path in self.root.glob(f"{stage.name}-*"):
            with suppress(OtherFormat, OSError):  # a newer program's, or gone meanwhile
                record = sealed.read(path)
                if _OURS.fullmatch(path.name) and record and sealed.load(stage.makes, path):
                    found.append((record.made.when, path, record.named(stage.inputs)))
        for _, path, record in sorted(found, key=lambda one: one[:2], reverse=True):
            yield path, record

    def sweep(
        self, used: Callable[[], set[str]], *, dry_run: bool = False
    ) -> list[tuple[str, int]]:
        """Remove every directory of ours that nothing uses.

        Args:
            used: tells the names that are needed. It is asked when no running command can begin to
                use another one, or end; what those use stays as well.

        Returns: names removed and their bytes.
        """
        removed = []
        with turn(self._leases):
            keep = used() | leased(self._leases)
            for path in sorted(self.root.glob("*")):
                ours = _OURS.fullmatch(path.name)
                if not ours or path.is_symlink() or not path.is_dir():
                    continue
                lock = self.root / f"{ours[1]}.lock"
                if not lock.exists():  # whoever makes a directory of ours makes this first
                    continue
                if path.name in keep or (ours[1] in keep and ours[2] == ".draft"):
                    continue
                with suppress(Timeout), FileLock(lock, timeout=0, mode=0o600):
                    removed.append((path.name, _size(path)))
                    if not dry_run:
                        shutil.rmtree(path)
            for log in self.root.glob("*.log"):
                if (
                    not dry_run
                    and _LOG.fullmatch(log.name)
                    and log.name.partition(".")[0] not in keep
                ):
                    log.unlink()
            for file in (self.home / "found").glob("*.json"):
                if not dry_run and file.stem not in keep:
                    file.unlink()
        return removed


def _noted(value: BaseModel) -> str:
    """The name of a value's file."""
    return f"{type(value).__name__.lower()}-{digest_of(value.model_dump(mode='json'))[:16]}"


def _size(folder: Path) -> int:
    """Bytes of a folder's files; what a link points at is not counted."""
    return sum(file.lstat().st_size for file in folder.rglob("*"))
