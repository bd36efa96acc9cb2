"""What an operator does with the cache: list its parts, verify them, and clear it."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Collection
from dataclasses import dataclass
from io import BufferedReader

from loader.files import storage
from loader.model_cache.directory import CacheDirectory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartListing:
    """One part. `bytes` is its size on the disk; `last_used` is in seconds since the epoch."""

    sha256: str
    bytes: int
    whole: bool
    in_use: bool
    last_used: float


@dataclass(frozen=True)
class Verification:
    """The result of `verify`: the number of whole parts and their size, and the digests of the damaged ones."""

    checked: int
    bytes: int
    damaged: list[str]


@dataclass(frozen=True)
class Clearance:
    """The result of `clear`: the number of removed parts, their size, and the number of parts kept for being in use."""

    removed: int
    bytes: int
    kept: int


class CacheUpkeep:
    """Lists, verifies and clears the cache. Every method raises StorageError."""

    def __init__(self, directory: CacheDirectory, lock: threading.Lock, in_use: Collection[str]) -> None:
        """`in_use` is a view of the digests of the parts in use, which change only while `lock` is held."""
        self._directory = directory
        self._lock = lock
        self._in_use = in_use

    @property
    def max_bytes(self) -> int:
        """The limit for the parts on the disk, in bytes; 0 means no limit."""
        return self._directory.max_bytes

    def listing(self) -> list[PartListing]:
        """Return all parts, least recently used first."""
        with self._lock:
            return [
                PartListing(file.sha256, file.size, file.whole, file.sha256 in self._in_use, file.last_used)
                for file in self._directory.files()
            ]

    def verify(self) -> Verification:
        """Read every whole part and remove those with a wrong digest, so that the next load downloads them again.

        Open readers of such a part continue and repair what does not authenticate. Takes as long as the disk does.
        """
        checked, size, damaged = 0, 0, []
        for sha256 in [file.sha256 for file in self._directory.files() if file.whole]:
            with storage(self._directory.path, 0):
                try:
                    file = self._directory.open_big(sha256)
                except FileNotFoundError:  # the part was removed meanwhile, or is being repaired
                    continue
                with file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    checked, size = checked + 1, size + file.tell()
                    if digest != sha256 and self._removed(sha256, file):
                        damaged.append(sha256)
        return Verification(checked, size, damaged)

    def clear(self) -> Clearance:
        """Remove every part that is not in use, whole or not."""
        with self._lock, storage(self._directory.path, 0):
            files = self._directory.files()
            idle = [file for file in files if file.sha256 not in self._in_use]
            for file in idle:
                self._directory.remove(file.sha256)
        log.info("cleared the cache of %d parts", len(idle))
        return Clearance(len(idle), sum(file.size for file in idle), len(files) - len(idle))

    def _removed(self, sha256: str, file: BufferedReader) -> bool:
        """Remove a damaged part. Return False if another file has the name now, because that one was not read."""
        with self._lock:
            try:
                if not os.path.samestat(self._directory.big(sha256).lstat(), os.fstat(file.fileno())):
                    return False
            except FileNotFoundError:
                return False
            self._directory.remove(sha256)
        log.warning("removed a damaged part from the cache: %s", sha256)
        return True
