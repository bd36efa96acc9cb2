"""The stored bytes of an archive's blobs: read, and hashed on all cores, before the key that opens them is there."""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import BinaryIO

from loader.crypto.pieces import PIECE_SIZE, PieceDigests
from loader.errors import Checkpoint, CorruptCiphertext

READ_SIZE = 256 << 10
# How often a waiting caller is told how far the reading is.
POLL_SECONDS = 0.1


class StoredBlob:
    """A part of the open file, as a file of its own that is read once."""

    def __init__(self, file: BinaryIO | io.FileIO, begin: int, size: int) -> None:
        self._file = file
        self._position = begin
        self._end = begin + size

    def readinto(self, buffer: memoryview, /) -> int:
        """Read the next bytes, and return how many there were. Raises OSError."""
        count = os.preadv(self._file.fileno(), [buffer[: self._end - self._position]], self._position)
        self._position += count
        return count

    def add_to(self, digests: PieceDigests) -> Iterator[int]:
        """Add all pieces to `digests`, and yield their sizes. Each is read and hashed on any core.

        Raises CorruptCiphertext if the file has become shorter, and OSError; maybe only when the digests are taken.
        """
        # The buffers are small, so that what was read is hashed while it is still in the cache of the processor.
        buffers = [memoryview(bytearray(READ_SIZE)) for _ in range(digests.lag + 1)]
        for begin, buffer in zip(range(self._position, self._end, PIECE_SIZE), itertools.cycle(buffers), strict=False):
            end = min(begin + PIECE_SIZE, self._end)
            digests.add_later(functools.partial(self._digest, begin, end, buffer))
            yield end - begin

    def pieces(self, digests: PieceDigests) -> Iterator[memoryview]:
        """Add all pieces to `digests` as they are hashed on other cores, and yield them.

        Each is valid until the next is taken. Raises CorruptCiphertext if the file has become shorter, and OSError.
        """
        buffers = [memoryview(bytearray(PIECE_SIZE)) for _ in range(digests.lag + 1)]
        for buffer in itertools.cycle(buffers):
            piece = buffer[: self._end - self._position]
            if not piece:
                return
            filled = 0
            while filled < len(piece):
                count = self.readinto(piece[filled:])
                if not count:
                    raise CorruptCiphertext("it was cut short while it was read")
                filled += count
            digests.add(piece)
            yield piece

    def _digest(self, begin: int, end: int, buffer: memoryview) -> bytes:
        sha256 = hashlib.sha256()
        while begin < end:
            count = os.preadv(self._file.fileno(), [buffer[: end - begin]], begin)
            if not count:
                raise CorruptCiphertext("it was cut short while it was read")
            sha256.update(buffer[:count])
            begin += count
        return sha256.digest()


class DigestsAhead:
    """Hashes blobs one after another in a thread of its own, while its caller waits for a login and a key.

    What the digests are compared with comes later, and so do the errors: `results` raises them.
    """

    def __init__(self, blobs: Mapping[str, StoredBlob], checkpoint: Checkpoint) -> None:
        """Start to read. `checkpoint` is called before each piece, in the thread."""
        self._checkpoint = checkpoint
        self._done = 0
        self._is_closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="digests")
        self._made = {digest: self._thread.submit(self._hashed, blob) for digest, blob in blobs.items()}

    def results(self, on_read: Callable[[int], None]) -> Iterator[tuple[str, PieceDigests]]:
        """Yield each blob's digest and the digests of its pieces, as soon as they are there.

        `on_read` gets the bytes of all blobs that were read so far. Raises CorruptCiphertext if the file has become
        shorter, OSError, and what the checkpoint raises.
        """
        for digest, made in self._made.items():
            while not wait([made], POLL_SECONDS).done:
                on_read(self._done)
            on_read(self._done)
            yield digest, made.result()

    def close(self) -> None:
        """End the reading after the current piece."""
        self._is_closed = True
        self._thread.shutdown(cancel_futures=True)

    def _hashed(self, blob: StoredBlob) -> PieceDigests:
        digests = PieceDigests()
        for size in blob.add_to(digests):
            self._checkpoint()
            if self._is_closed:
                raise RuntimeError("the reading was closed")
            self._done += size
        return digests
