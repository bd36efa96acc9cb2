"""One big part on this disk, whole or growing: the file that a download writes, and the readers of that file."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

from loader.crypto.model_parts import BigPart
from loader.errors import ApiUnreachable, DiskSpace, LoaderError
from loader.files import storage
from loader.model_cache.directory import CacheDirectory

HASH_SIZE = 1 << 18
SKIP_SIZE = 1 << 20


class Stream(Protocol):
    """Bytes of a big part as they come: from offset `begin` on, of the version that `etag` names, `total` in all."""

    begin: int
    total: int | None
    etag: str | None

    def readinto(self, buffer: memoryview, /) -> int | None: ...

    def close(self) -> None: ...


# fetch(begin, end, etag): the bytes from `begin` to `end`, None being the last; from 0 on if the version is not `etag`.
Fetch = Callable[[int, int | None, str | None], Stream]


class BigFile:
    """Readers may have bytes before the digest of the whole is known, since they authenticate every segment.

    `available` counts the bytes from the begin that are there; `verified` says that the file has its name in the
    directory. A `failure` ends what can become available. `repaired` are the offsets at which damage was replaced, one
    thread at a time. Raises StorageError and DiskSpace.
    """

    def __init__(self, directory: CacheDirectory, part: BigPart) -> None:
        """Open the file, or make it. One that cannot be this part is removed first."""
        self.part = part
        self.failure: LoaderError | None = None
        self._directory = directory
        self.repairing = threading.Lock()
        self.repaired: set[int] = set()
        self._changed = threading.Condition()
        self._restarts = 0
        path = directory.big(part.sha256)
        with storage(path, part.size):
            self.verified = _has_size(path, part.size)
            if not self.verified:
                path.unlink(missing_ok=True)
                path = directory.partial(part.sha256)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(path, flags, 0o600)
            self.available = os.fstat(self._descriptor).st_size
        if self.available > part.size:
            self.restart()

    @property
    def whole(self) -> bool:
        """Whether every byte is there, proven or not."""
        return self.available == self.part.size

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fill the begin of `buffer` with what is there from `offset` on; waits for at least a byte. 0 at the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.available > offset or self.whole or self.failure is not None)
                count, restarts = min(len(buffer), self.available - offset), self._restarts
                if count <= 0 and not self.whole and self.failure is not None:
                    raise self.failure
            if count <= 0:
                return 0
            with storage(self._directory.path, 0):
                count = os.preadv(self._descriptor, [buffer[:count]], offset)
            # An empty read after a restart means that the file was truncated; wait for the data.
            if count or restarts == self._restarts:
                return count

    def append(self, piece: memoryview, evict_one: Callable[[], bool]) -> None:
        """Add `piece` at the end. On a full disk, call `evict_one` until the bytes fit or it returns False."""
        self._write(self.available, piece, evict_one)
        with self._changed:
            self.available += len(piece)
            self._changed.notify_all()

    def restart(self) -> None:
        """Begin anew, because the bytes so far are not those of the version that is there now."""
        with self._changed, storage(self._directory.path, self.part.size):
            os.ftruncate(self._descriptor, 0)
            self.available = 0
            self._restarts += 1

    def patch(self, offset: int, piece: memoryview) -> bool:
        """Replace bytes that turned out to be damaged. The file loses its name until its digest is verified again.

        False, and nothing is done, if those bytes are not there any more: it has begun anew, and they will come again.
        """
        with self._changed:
            if offset + len(piece) > self.available:
                return False
            with storage(self._directory.path, len(piece)):
                if self.verified:
                    self._directory.demote(self.part.sha256)
                    self.verified = False
            self._write(offset, piece, lambda: False)
        return True

    def fail(self, failure: LoaderError) -> None:
        """Let readers that wait for more raise `failure`."""
        with self._changed:
            self.failure = failure
            self._changed.notify_all()

    def update(self, digest: hashlib._Hash) -> None:
        """Feed all available bytes to `digest`."""
        buffer, offset = memoryview(bytearray(HASH_SIZE)), 0
        with storage(self._directory.path, 0):
            while count := os.preadv(self._descriptor, [buffer[: self.available - offset]], offset):
                digest.update(buffer[:count])
                offset += count

    def prove(self, hex_digest: str) -> bool:
        """Give the whole file its name if `hex_digest`, taken over its bytes, is the right one."""
        if self.repaired or hex_digest != self.part.sha256:
            return False
        self._promote()
        return True

    def settle(self) -> None:
        """After the last reader: a file that is whole but unproven is proven now, or removed."""
        if self.whole and not self.verified:
            digest = hashlib.sha256()
            self.update(digest)
            if digest.hexdigest() == self.part.sha256:
                self._promote()
            else:
                self.remove()

    def remove(self) -> None:
        """Take it from the disk; readers that are open keep what is there."""
        with storage(self._directory.path, 0):
            self._directory.remove(self.part.sha256)

    def try_lock(self) -> bool:
        """Become the one process that appends; False while another is. What that has appended counts."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with self._changed:
            self.available = min(os.fstat(self._descriptor).st_size, self.part.size)
            self._changed.notify_all()
        return True

    def unlock(self) -> None:
        """Let another process append."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

    def _promote(self) -> None:
        with storage(self._directory.path, 0):
            os.fsync(self._descriptor)
            # Another process may have given it the name already, or have removed it and begun another.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), self._directory.partial(self.part.sha256).stat()):
                    self._directory.promote(self.part.sha256)
        self.verified = True

    def _write(self, offset: int, piece: memoryview, evict_one: Callable[[], bool]) -> None:
        while piece:
            try:
                with storage(self._directory.path, self.part.size - offset):
                    written = os.pwrite(self._descriptor, piece, offset)
            except DiskSpace:
                if not evict_one():
                    raise
                continue
            offset, piece = offset + written, piece[written:]


class CacheReader:
    """A source over the part's bytes. Reading waits for bytes that are on their way. Close it: it counts."""

    def __init__(self, file: BigFile, fetch: Fetch, leave: Callable[[], None]) -> None:
        """`leave` is called once, at close."""
        self._file = file
        self._fetch = fetch
        self._leave = leave
        self._position = 0
        self._closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        """Raises what ended the download early, and StorageError."""
        count = self._file.read_at(self._position, buffer)
        self._position += count
        return count

    def seek(self, offset: int, /) -> int:
        """Go to an offset from the begin."""
        self._position = offset
        return offset

    def repair(self, begin: int, end: int) -> None:
        """Fetch the bytes from `begin` to `end` anew, unless another reader has done so. Raises what `fetch` does."""
        with self._file.repairing:
            if begin in self._file.repaired:
                return
            with closing(self._fetch(begin, end, None)) as stream:
                # From 0 on, where ranges are ignored.
                for offset in range(stream.begin, begin, SKIP_SIZE):
                    _read(stream, min(SKIP_SIZE, begin - offset))
                piece = _read(stream, end - begin)
            if self._file.patch(begin, piece):
                self._file.repaired.add(begin)

    def close(self) -> None:
        """Leave the part; harmless if done before."""
        if not self._closed:
            self._closed = True
            self._leave()


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _read(stream: Stream, size: int) -> memoryview:
    piece = memoryview(bytearray(size))
    rest = piece
    while rest:
        count = stream.readinto(rest)
        if not count:
            raise ApiUnreachable("The transfer ended before the part did.")
        rest = rest[count:]
    return piece
