"""What an operator does with the cache: list its parts, verify them, and clear it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import BufferedReader

from loader.crypto.pieces import PieceDigests
from loader.errors import CorruptCiphertext, StorageError
from loader.files import Unreadable, storage
from loader.model_cache.directory import CachedFile, CacheDirectory
from loader.stored_blobs import StoredBlob

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartListing:
    """One part. `bytes` is its size on the disk; `last_used` is in seconds since the epoch.

    `name` is that of its model if a load or a list has told it since the start, else None.
    """

    digest: str
    name: str | None
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

    def __init__(
        self, directory: CacheDirectory, lock: threading.Lock, in_use: Collection[str], names: Mapping[str, str]
    ) -> None:
        """`in_use` is a view of the digests of the parts in use, and `names` has the names of models by digests.

        Both change only while `lock` is held.
        """
        self._directory = directory
        self._lock = lock
        self._in_use = in_use
        self._names = names

    @property
    def max_bytes(self) -> int:
        """The limit for the parts on the disk, in bytes; 0 means no limit."""
        return self._directory.max_bytes

    def listing(self) -> list[PartListing]:
        """Return all parts, least recently used first."""
        with self._lock:
            return [self._listed(file) for file in self._directory.files()]

    def verify(self) -> Verification:
        """Read every whole part and remove those with a wrong digest, so that the next load downloads them again.

        A part that cannot be read is damaged as well. Open readers of such a part continue and repair what does not
        authenticate. Takes as long as the disk does. A fault with one part is raised once all others were verified.
        """
        checked, size, damaged = 0, 0, []
        fault: StorageError | None = None
        for part in [file for file in self._directory.files() if file.whole]:
            try:
                is_damaged = self._verify(part.digest)
            except StorageError as exc:
                log.warning("a part of the cache could not be verified: %s", exc)
                fault = fault or exc
                continue
            if is_damaged is not None:
                checked, size = checked + 1, size + part.size
                damaged += [part.digest] if is_damaged else []
        if fault is not None:
            raise fault
        return Verification(checked, size, damaged)

    def clear(self) -> Clearance:
        """Remove every part that is not in use, whole or not."""
        with self._lock, storage(self._directory.path, 0):
            files = self._directory.files()
            idle = [file for file in files if file.digest not in self._in_use]
            for file in idle:
                self._directory.remove(file.digest)
        log.info("cleared the cache of %d parts", len(idle))
        return Clearance(len(idle), sum(file.size for file in idle), len(files) - len(idle))

    def _listed(self, file: CachedFile) -> PartListing:
        name, in_use = self._names.get(file.digest), file.digest in self._in_use
        return PartListing(file.digest, name, file.size, file.whole, in_use, file.last_used)

    def _verify(self, digest: str) -> bool | None:
        """Return whether the part was damaged and is removed; None if there is none under this name."""
        path = self._directory.big(digest)
        with storage(path, 0):
            try:
                file = self._directory.open_big(digest)
            except FileNotFoundError:  # the part was removed meanwhile, or is being repaired
                return None
            with file:
                return not self._is_sound(digest, file) and self._removed(digest, file)

    def _is_sound(self, digest: str, file: BufferedReader) -> bool:
        try:
            with storage(self._directory.big(digest), 0):
                return _digest_of(file) == digest
        except Unreadable as exc:
            log.warning("%s", exc)
            return False
        except CorruptCiphertext:  # it has become shorter meanwhile
            return False

    def _removed(self, digest: str, file: BufferedReader) -> bool:
        """Remove a damaged part. Return False if another file has the name now, because that one was not read."""
        with self._lock:
            try:
                if not os.path.samestat(self._directory.big(digest).lstat(), os.fstat(file.fileno())):
                    return False
            except FileNotFoundError:
                return False
            self._directory.remove(digest)
        log.warning("removed a damaged part from the cache: %s", digest)
        return True


def _digest_of(file: BufferedReader) -> str:
    """Return the piece digest of a file, which all cores compute. Raises OSError, and CorruptCiphertext."""
    digests = PieceDigests()
    for _ in StoredBlob(file, 0, os.fstat(file.fileno()).st_size).add_to(digests):
        pass
    return digests.hex()
