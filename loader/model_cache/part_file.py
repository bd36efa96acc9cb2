"""One big part on this disk, whole or growing: what its transfer writes and its readers read."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from loader.crypto.model_parts import BigPart
from loader.errors import DiskSpace, LoaderError
from loader.files import storage
from loader.model_cache.directory import CacheDirectory

PIECE_SIZE = 1 << 18


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
            # Nothing where something was: it has begun anew in between, and what was there will come again.
            if count or restarts == self._restarts:
                return count

    def append(self, piece: memoryview, make_room: Callable[[], bool]) -> None:
        """Add `piece` at the end. On a full disk `make_room` is asked until it has nothing left to give."""
        self._write(self.available, piece, make_room)
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
        buffer, offset = memoryview(bytearray(PIECE_SIZE)), 0
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

    def _write(self, offset: int, piece: memoryview, make_room: Callable[[], bool]) -> None:
        while piece:
            try:
                with storage(self._directory.path, self.part.size - offset):
                    written = os.pwrite(self._descriptor, piece, offset)
            except DiskSpace:
                if not make_room():
                    raise
                continue
            offset, piece = offset + written, piece[written:]


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
