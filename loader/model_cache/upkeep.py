"""The cache as its operator sees it: what lies there, whether it is sound, and how it is emptied."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BufferedReader

from loader.files import storage
from loader.model_cache.directory import CacheDirectory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartListing:
    """One part, `bytes` of it on the disk; `last_used` is in seconds since the epoch."""

    sha256: str
    bytes: int
    whole: bool
    in_use: bool
    last_used: float


@dataclass(frozen=True)
class Verification:
    """`checked` whole parts with `bytes` in all; `damaged` names those that were not what their name says."""

    checked: int
    bytes: int
    damaged: list[str]


@dataclass(frozen=True)
class Clearance:
    """`removed` parts with `bytes` in all; `kept` were in use."""

    removed: int
    bytes: int
    kept: int


class CacheUpkeep:
    """Every method raises StorageError."""

    def __init__(self, directory: CacheDirectory, held: Callable[[], AbstractContextManager[Collection[str]]]) -> None:
        """`held` gives the parts in use; while its block lasts, none begins to be used."""
        self._directory = directory
        self._held = held

    @property
    def max_bytes(self) -> int:
        """The limit; 0 means none."""
        return self._directory.max_bytes

    def listing(self) -> list[PartListing]:
        """All parts, least recently used first."""
        with self._held() as in_use:
            return [
                PartListing(file.sha256, file.size, file.whole, file.sha256 in in_use, file.last_used)
                for file in self._directory.files()
            ]

    def verify(self) -> Verification:
        """Read every whole part; one whose digest is not its name is removed, so that it is fetched anew.

        Whoever reads such a part goes on, and repairs what does not authenticate. Takes as long as the disk does.
        """
        checked, size, damaged = 0, 0, []
        for sha256 in [file.sha256 for file in self._directory.files() if file.whole]:
            with storage(self._directory.path, 0):
                try:
                    file = self._directory.open_big(sha256)
                except FileNotFoundError:  # removed meanwhile, or being repaired
                    continue
                with file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    checked, size = checked + 1, size + file.tell()
                    if digest != sha256 and self._removed(sha256, file):
                        damaged.append(sha256)
        return Verification(checked, size, damaged)

    def clear(self) -> Clearance:
        """Remove every part that is not in use, whole or not."""
        with self._held() as in_use, storage(self._directory.path, 0):
            files = self._directory.files()
            idle = [file for file in files if file.sha256 not in in_use]
            for file in idle:
                self._directory.remove(file.sha256)
        log.info("cleared the cache of %d parts", len(idle))
        return Clearance(len(idle), sum(file.size for file in idle), len(files) - len(idle))

    def _removed(self, sha256: str, file: BufferedReader) -> bool:
        """False if the name belongs to another file by now: that one was not read."""
        with self._held():
            try:
                if not os.path.samestat(self._directory.big(sha256).stat(), os.fstat(file.fileno())):
                    return False
            except FileNotFoundError:
                return False
            self._directory.remove(sha256)
        log.warning("removed a part from the cache that is not what its name says: %s", sha256)
        return True
