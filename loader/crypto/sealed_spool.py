"""A spool for plaintext that must wait for its folder or its use: it waits on the disk in encrypted form only."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Self

from Crypto.Random import get_random_bytes

from loader.crypto.segments import KEY_MATERIAL_MIN_SIZE, plaintext_size
from loader.crypto.streaming_aead import Buffer, DecryptingReader, encrypt
from loader.crypto.work_ahead import READ_AHEAD, WorkAhead
from loader.files import write_at


@dataclass(frozen=True)
class Region:
    """Where one plaintext lies in the file of a spool, in bytes."""

    offset: int
    sealed_size: int

    @property
    def size(self) -> int:
        """The size of the plaintext."""
        return plaintext_size(self.sealed_size)


class SealedSpool:
    """Plaintexts one after the other in a new file, encrypted under a key that exists in this object only.

    The caller closes the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        """`file` is empty, and open for reading and writing."""
        self._file = file
        self._key = get_random_bytes(KEY_MATERIAL_MIN_SIZE)
        self._end = 0
        # Everything before this offset was read, or is not needed any more.
        self._free = 0

    def add(self, plaintext: Iterable[Buffer]) -> Region:
        """Encrypt one more plaintext at the end of the file."""
        begin = self._end
        with _Writer(self._file) as writer:
            for piece in encrypt(plaintext, self._key, _associated_data(begin)):
                writer.write(bytes(piece), self._end)
                self._end += len(piece)
        return Region(begin, self._end - begin)

    def drop(self, region: Region) -> None:
        """Forget the plaintext that was added last, so that the next one takes its room."""
        self._end = region.offset

    def read(self, region: Region) -> DecryptingReader:
        """Return a reader of one plaintext from its start."""
        place = _associated_data(region.offset)
        return DecryptingReader(_RegionSource(self, region), region.sealed_size, self._key, place)

    def read_at(self, buffer: memoryview, offset: int) -> int:
        """Read ciphertext, for the readers."""
        count = os.preadv(self._file.fileno(), [buffer], offset)
        self._free = offset + count
        return count

    def overwrite(self, pieces: Iterable[bytes | bytearray], begin: int) -> None:
        """Replace the content of the file from the offset `begin` on by `pieces`, and end the file after them.

        A piece must stay as it is, because it may wait. The pieces may be made at the same time from what `read`
        yields, if the plaintexts are read in their order and each once. They are written where a reader has been
        already, so that the file needs its room on the disk only once. The caller writes the bytes before `begin`
        afterwards.
        """
        self._free = 0
        waiting: deque[bytes | bytearray] = deque()
        end = begin
        with _Writer(self._file) as writer:
            for piece in pieces:
                waiting.append(piece)
                while waiting and end + len(waiting[0]) <= self._free:
                    writer.write(waiting[0], end)
                    end += len(waiting.popleft())
            for rest in waiting:
                writer.write(rest, end)
                end += len(rest)
        self._file.truncate(end)


def _associated_data(offset: int) -> bytes:
    # The place, because a plaintext that was exchanged for another one of the spool must not authenticate.
    return offset.to_bytes(8, "big")


class _Writer:
    """Writes pieces on another core, because the consumer of the spool is busy. The block ends when all are written."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._work = WorkAhead[None]()

    def write(self, piece: bytes | bytearray, offset: int) -> None:
        """Write a piece, which must stay as it is. Raises OSError, also of an earlier piece."""
        self._work.put(partial(write_at, self._descriptor, piece, offset))
        if len(self._work) == READ_AHEAD:
            self._work.get()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Wait in any case, because the descriptor may soon belong to another file.
        failures = []
        while self._work:
            try:
                self._work.get()
            except OSError as exc:
                failures.append(exc)
        if failures and kind is None:
            raise failures[0]


class _RegionSource:
    """The ciphertext of one region, from its start."""

    def __init__(self, spool: SealedSpool, region: Region) -> None:
        self._spool = spool
        self._position = region.offset
        self._end = region.offset + region.sealed_size

    def readinto(self, buffer: memoryview, /) -> int:
        # Nothing is left once the last segment was read.
        count = self._spool.read_at(buffer[: self._end - self._position], self._position)
        self._position += count
        return count
