"""The directory of the cache: the names of its files, what each name promises, and which parts are evicted.

    {digest}.big       a whole big part; the name exists only once its digest is verified
    {digest}.partial   the start of a big part, which a download resumes after any interruption
    {digest}.pieces    the SHA-256 of each piece of 1 MiB of that part: right if the SHA-256 of the file is the digest
    .upload-*          a running upload; removed at the start of the loader, as unfinished .pieces are

All files have mode 0600, and none has plaintext. The modification time of a whole part is the time of its last use.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import tempfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from loader.crypto.pieces import DIGEST_SIZE, PIECE_SIZE
from loader.files import (
    TEMPORARY_SUFFIX,
    free_bytes,
    make_private_directory,
    open_regular,
    read_small,
    remove_if_there,
    storage,
    write_whole,
)

log = logging.getLogger(__name__)

UPLOAD_PREFIX = ".upload-"
_NAME = re.compile(r"(?P<digest>[0-9a-f]{64})\.(?P<kind>big|partial)")


@dataclass(frozen=True)
class CachedFile:
    """One part on the disk. `size` is in bytes, `last_used` in seconds since the epoch."""

    digest: str
    whole: bool
    size: int
    last_used: float


class PartDirectory:
    """The files of parts in one directory, whole and partial, without locks. Raises StorageError and DiskSpace.

    A subclass may choose other names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def big(self, digest: str) -> Path:
        """Return the path of a whole part."""
        return self.path / f"{digest}.big"

    def partial(self, digest: str) -> Path:
        """Return the path of a partial part."""
        return self.path / f"{digest}.partial"

    def pieces(self, digest: str) -> Path:
        """Return the path of the digests of a part's pieces."""
        return self.path / f"{digest}.pieces"

    def read_pieces(self, digest: str, size: int) -> bytes:
        """Return the kept digests of the pieces of a part of `size` bytes, empty if unreadable. Never raises."""
        with suppress(OSError):
            return read_small(self.pieces(digest), size // PIECE_SIZE * DIGEST_SIZE + DIGEST_SIZE)
        return b""

    def write_pieces(self, digest: str, digests: bytes) -> None:
        """Keep the proven digests of a part's pieces. Never raises, because a later load can prove them again."""
        with suppress(OSError):
            write_whole(self.pieces(digest), digests)

    def has_whole(self, digest: str, size: int) -> bool:
        """Return whether a part of `size` bytes is here as a whole. Never raises."""
        try:
            return _has_size(self.big(digest), size)
        except OSError:
            return False

    def open_part(self, digest: str, size: int) -> tuple[int, bool]:
        """Open the file of a part of `size` bytes, or create it. Raises OSError.

        Return the descriptor, and whether the file is that of a whole part. A file of the right size is opened for
        reading, because its disk may be read-only, any other for writing too. What has a name of this part and cannot
        be its file is removed.
        """
        big = self.big(digest)
        if _has_size(big, size):
            return open_regular(big), True
        remove_if_there(big)
        return self._open_partial(self.partial(digest), size), False

    def _open_partial(self, path: Path, size: int) -> int:
        # A file with a second name is not continued, because that name may be one of somebody else's file.
        with suppress(FileNotFoundError):
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                path.unlink()
        return open_regular(path, os.O_RDONLY if _has_size(path, size) else os.O_RDWR | os.O_CREAT)

    def promote(self, digest: str) -> None:
        """Give a partial part its final name, once its digest is verified."""
        self.partial(digest).replace(self.big(digest))

    def demote(self, digest: str) -> None:
        """Make a damaged part a partial one again. Open files are not disturbed."""
        with suppress(FileNotFoundError):
            self.big(digest).replace(self.partial(digest))

    def remove(self, digest: str) -> None:
        """Remove all files of a part. Open files are not disturbed."""
        for path in (self.big(digest), self.partial(digest), self.pieces(digest)):
            remove_if_there(path)


class CacheDirectory(PartDirectory):
    """The directory of the cache. `max_bytes` 0 means no limit."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__(path)
        self.max_bytes = max_bytes

    def prepare(self) -> None:
        """Create the directory if it is missing."""
        with storage(self.path, 0):
            make_private_directory(self.path)

    def remove_leftovers(self) -> None:
        """Remove what an earlier process left that was killed during a write. Never raises."""
        # The next write of the same digests would remove these, but a part that is gone has none.
        unfinished = self.path.glob(f".*.pieces.{TEMPORARY_SUFFIX}")
        for path in (*self.path.glob(f"{UPLOAD_PREFIX}*"), *unfinished):
            with suppress(OSError):
                path.unlink()
        for path in self.path.glob("*.pieces"):
            if not any(part(path.stem).exists() for part in (self.big, self.partial)):
                with suppress(OSError):
                    path.unlink()

    def new_upload(self) -> BinaryIO:
        """Create a file for the big part of an upload. The caller removes it or lets the cache adopt it."""
        return tempfile.NamedTemporaryFile(dir=self.path, prefix=UPLOAD_PREFIX, delete=False)  # type: ignore[return-value]

    def open_big(self, digest: str) -> BufferedReader:
        """Open a whole part for reading. Raises OSError."""
        return os.fdopen(open_regular(self.big(digest)), "rb")

    def touch(self, digest: str) -> None:
        """Note the present time as the last use of a whole part."""
        with suppress(OSError):
            os.utime(self.big(digest), follow_symlinks=False)

    def files(self) -> list[CachedFile]:
        """Return all parts, whole and partial, least recently used first. Raises StorageError."""
        found = []
        with storage(self.path, 0), suppress(FileNotFoundError), os.scandir(self.path) as listing:
            for entry in listing:
                match = _NAME.fullmatch(entry.name)
                if match is None:
                    continue
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if not stat.S_ISREG(status.st_mode):
                        continue
                    found.append(CachedFile(match["digest"], match["kind"] == "big", status.st_size, status.st_mtime))
        return sorted(found, key=lambda file: file.last_used)

    def keep_limit(self, needed: int, in_use: Collection[str]) -> None:
        """Remove the least recently used parts until `needed` bytes more keep the limit, or none is left to remove."""
        if not self.max_bytes:
            return
        files = self.files()
        used = sum(file.size for file in files)
        for file in files:
            if used + needed <= self.max_bytes:
                return
            if file.digest not in in_use:
                self._evict(file)
                used -= file.size

    def free_disk_space(self, needed: int, in_use: Collection[str]) -> None:
        """Remove the least recently used parts until `needed` bytes are free; none if that cannot be reached."""
        if self.room(in_use) >= needed:
            while free_bytes(self.path) < needed and self.evict_one(in_use):
                pass

    def room(self, in_use: Collection[str]) -> int:
        """Return how many bytes the disk takes if every part that is not in use is removed."""
        with storage(self.path, 0):
            return free_bytes(self.path) + sum(file.size for file in self.files() if file.digest not in in_use)

    def evict_one(self, in_use: Collection[str]) -> bool:
        """Remove the least recently used part because the disk is full; False if there is none to remove."""
        for file in self.files():
            if file.digest not in in_use:
                self._evict(file)
                return True
        return False

    def fits(self, size: int) -> bool:
        """Return whether a part of `size` bytes may stay at all."""
        return not self.max_bytes or size <= self.max_bytes

    def _evict(self, file: CachedFile) -> None:
        log.info("removing a part of %d bytes from the cache, last used at %d", file.size, file.last_used)
        with storage(self.path, 0):
            self.remove(file.digest)


def _has_size(path: Path, size: int) -> bool:
    """Return whether a regular file of `size` bytes has this name."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size
