"""The file of one big part on this disk, whole or growing; and the stream that brings its bytes."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

from loader.crypto.pieces import PieceHash
from loader.errors import ApiProtocol, ApiUnreachable, LoaderError
from loader.files import Unreadable, make_writable, storage
from loader.model_cache.directory import PartDirectory

log = logging.getLogger(__name__)

HASH_SIZE = 1 << 18
SKIP_SIZE = 1 << 20


class Part(Protocol):
    """What is known of a part before its bytes come: size in bytes, and piece digest in hex, which names its file."""

    @property
    def size(self) -> int: ...

    @property
    def digest(self) -> str: ...


class Stream(Protocol):
    """The bytes of a part from offset `begin` on, as the API sends them.

    `total` is the size of the whole part, None if the API does not say.
    """

    begin: int
    total: int | None

    def readinto(self, buffer: memoryview, /) -> int | None: ...

    def ended_early(self) -> ApiUnreachable:
        """Return the error for a stream that ended before the end of the part."""

    def close(self) -> None: ...


# fetch(begin, end) requests the bytes from `begin` to `end`, None being the end of the part. The stream may begin
# earlier, because some servers ignore ranges and others align them.
Fetch = Callable[[int, int | None], Stream]


class PartInUse(Protocol):
    """A part in use, as its readers and its download see it. The cache provides it."""

    @property
    def file(self) -> BigFile: ...

    def leave(self) -> None:
        """Take one reader off."""

    def is_wanted(self) -> bool:
        """Return whether the download may continue."""

    def evict_one(self) -> bool:
        """Remove another part because the disk is full; False if no removal makes enough room."""


class BigFile:
    """The file of a part. Readers get bytes before the digest is known, because they authenticate every segment.

    `available` is the number of bytes from the start that are here. `verified` says that the digest was right and the
    file has its final name. After a `failure` no more bytes come. `repaired` holds the offsets where damage was
    replaced; `repairing` lets one thread repair at a time. Methods raise StorageError and DiskSpace.
    """

    def __init__(self, directory: PartDirectory, part: Part) -> None:
        """Open the file, or create it. Remove a file of the wrong size first, because it cannot be this part."""
        self.part = part
        self.failure: LoaderError | None = None
        self._directory = directory
        self.repairing = threading.Lock()
        self.repaired: set[int] = set()
        self._changed = threading.Condition()
        self._restarts = 0
        with storage(directory.big(part.digest), part.size):
            self._descriptor, self.verified = directory.open_part(part.digest, part.size)
            self.available = os.fstat(self._descriptor).st_size
        self._writable = self.available != part.size
        if self.available > part.size:
            self.restart()

    @property
    def whole(self) -> bool:
        """Whether every byte is here, verified or not."""
        return self.available == self.part.size

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fill the start of `buffer` from `offset` on and return how many bytes that are; 0 at the end of the part.

        Waits until at least one byte is here. Raises what ended the download early, and Unreadable.
        """
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

    def append(self, piece: memoryview) -> None:
        """Add `piece` at the end. After DiskSpace nothing was added, and the call can be repeated."""
        self._write(self.available, piece)
        with self._changed:
            self.available += len(piece)
            self._changed.notify_all()

    def restart(self) -> None:
        """Drop all bytes, because they are more than the part has."""
        self._truncate(0)

    def patch(self, offset: int, piece: memoryview) -> bool:
        """Replace damaged bytes. A file that can be written to loses its final name until it is verified again.

        Do nothing and return False if the bytes are gone after a restart, because the download brings them again.
        """
        with self._changed:
            if offset + len(piece) > self.available:
                return False
            with storage(self._directory.path, len(piece)):
                self._prepare_write()
                if self.verified:
                    self._directory.demote(self.part.digest)
                    self.verified = False
            self._write(offset, piece)
        return True

    def fail(self, failure: LoaderError) -> None:
        """Make the readers that wait for more bytes raise `failure`."""
        with self._changed:
            self.failure = failure
            self._changed.notify_all()

    def update(self, digest: PieceHash) -> None:
        """Hash all available bytes into `digest`, and drop those from the first unreadable one on."""
        offset = 0
        try:
            for piece in self._pieces():
                digest.update(piece)
                offset += len(piece)
        except Unreadable as exc:
            log.warning("%s The download goes on at %d bytes.", exc, offset)
            self._truncate(offset)

    def prove(self, digest: PieceHash) -> bool:
        """Give the file its final name if `digest`, which has all of its bytes, is right. Return whether it is.

        A repaired file is refused, because its bytes were replaced while they were hashed.
        """
        if self.repaired or digest.hex() != self.part.digest:
            return False
        self._promote()
        return True

    def settle(self) -> None:
        """Verify a whole file that has no final name yet, and remove it if its digest is wrong."""
        if not self.whole or self.verified:
            return
        digest = PieceHash()
        try:
            for piece in self._pieces():
                digest.update(piece)
        except Unreadable:
            self.remove()
            raise
        if digest.hex() == self.part.digest:
            self._promote()
        else:
            self.remove()

    def piece_digests(self) -> bytes:
        """Return the digests of the pieces as they were kept, which need not be right; empty if there are none."""
        return self._directory.read_pieces(self.part.digest, self.part.size)

    def keep_piece_digests(self, digests: bytes) -> None:
        """Keep the proven digests of the pieces for later loads, if the disk takes them."""
        self._directory.write_pieces(self.part.digest, digests)

    def remove(self) -> None:
        """Remove the file. Open readers keep what is here."""
        with storage(self._directory.path, 0):
            self._directory.remove(self.part.digest)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _pieces(self) -> Iterator[memoryview]:
        """Yield all available bytes; each piece is valid until the next is taken."""
        buffer, offset = memoryview(bytearray(HASH_SIZE)), 0
        while True:
            with storage(self._directory.path, 0):
                count = os.preadv(self._descriptor, [buffer[: self.available - offset]], offset)
            if not count:
                return
            yield buffer[:count]
            offset += count

    def _truncate(self, size: int) -> None:
        with self._changed, storage(self._directory.path, self.part.size):
            self._prepare_write()
            os.ftruncate(self._descriptor, size)
            self.available = size
            self._restarts += 1

    def _prepare_write(self) -> None:
        if not self._writable:
            make_writable(self._descriptor)
            self._writable = True

    def _sync(self) -> None:
        """Wait until the file is on the disk. Remove it if the disk does not take it, which it says only once."""
        try:
            with storage(self._directory.path, 0):
                os.fsync(self._descriptor)
        except Unreadable:
            self.remove()
            raise

    def _promote(self) -> None:
        self._sync()
        # Compare the files, because somebody may have removed this one, and the name may belong to another one.
        with storage(self._directory.path, 0), suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._descriptor), self._directory.partial(self.part.digest).lstat()):
                self._directory.promote(self.part.digest)
        self.verified = True

    def _write(self, offset: int, piece: memoryview) -> None:
        while piece:
            with storage(self._directory.path, self.part.size - offset):
                written = os.pwrite(self._descriptor, piece, offset)
            offset, piece = offset + written, piece[written:]


def skip(stream: Stream, begin: int) -> None:
    """Read what comes before offset `begin`. Raises ApiProtocol if the stream begins after it."""
    if stream.begin > begin:
        raise ApiProtocol("The resource API sent another range than the loader requested.")
    for offset in range(stream.begin, begin, SKIP_SIZE):
        read_exactly(stream, min(SKIP_SIZE, begin - offset))


def read_exactly(stream: Stream, size: int) -> memoryview:
    """Return the next `size` bytes of a stream. Raises ApiUnreachable if it ends before."""
    piece = memoryview(bytearray(size))
    rest = piece
    while rest:
        count = stream.readinto(rest)
        if not count:
            raise stream.ended_early()
        rest = rest[count:]
    return piece
