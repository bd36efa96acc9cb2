"""What an operator does with the cache: list its parts, verify them, and clear it."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Collection
from dataclasses import dataclass
from io import BufferedReader

from loader.errors import StorageError
from loader.files import Unreadable, storage
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

        A part that cannot be read is damaged as well. Open readers of such a part continue and repair what does not
        authenticate. Takes as long as the disk does. A fault with one part is raised once all others were verified.
        """
        checked, size, damaged = 0, 0, []
        fault: StorageError | None = None
        for part in [file for file in self._directory.files() if file.whole]:
            try:
                is_damaged = self._verify(part.sha256)
            except StorageError as exc:
                log.warning("a part of the cache could not be verified: %s", exc)
                fault = fault or exc
                continue
            if is_damaged is not None:
                checked, size = checked + 1, size + part.size
                damaged += [part.sha256] if is_damaged else []
        if fault is not None:
            raise fault
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

    def _verify(self, sha256: str) -> bool | None:
        """Return whether the part was damaged and is removed; None if there is none under this name."""
        path = self._directory.big(sha256)
        with storage(path, 0):
            try:
                file = self._directory.open_big(sha256)
            except FileNotFoundError:  # the part was removed meanwhile, or is being repaired
                return None
            with file:
                return not self._is_sound(sha256, file) and self._removed(sha256, file)

    def _is_sound(self, sha256: str, file: BufferedReader) -> bool:
        try:
            with storage(self._directory.big(sha256), 0):
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except Unreadable as exc:
            log.warning("%s", exc)
            return False

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
