"""A spool for plaintext that must wait for its folder or its size: it waits on the disk in encrypted form only."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from typing import BinaryIO

from Crypto.Random import get_random_bytes

from loader.crypto.segments import KEY_MATERIAL_MIN_SIZE, plaintext_size
from loader.crypto.streaming_aead import Buffer, DecryptingReader, encrypt
from loader.files import write_large


class SealedSpool:
    """Plaintext in a new file, encrypted under a key that exists in this object only.

    `size` is that of the plaintext in bytes. The caller closes the file.
    """

    def __init__(self, file: BinaryIO, plaintext: Iterable[Buffer]) -> None:
        """Encrypt `plaintext` into `file`, which is open for reading and writing."""
        self._file = file
        self._key = get_random_bytes(KEY_MATERIAL_MIN_SIZE)
        for piece in encrypt(plaintext, self._key, b""):
            write_large(file, piece)
        self._sealed_size = file.tell()
        file.flush()
        self._position = 0
        self.size = plaintext_size(self._sealed_size)

    def read(self) -> DecryptingReader:
        """Return a reader of the plaintext from its start. Use one reader at a time, because they share a position."""
        self._position = 0
        return DecryptingReader(self, self._sealed_size, self._key, b"")

    def readinto(self, buffer: memoryview, /) -> int:
        """Read ciphertext, for the reader."""
        count = os.preadv(self._file.fileno(), [buffer], self._position)
        self._position += count
        return count

    def overwrite(self, pieces: Iterable[Buffer]) -> None:
        """Replace the content of the file by `pieces`, which may be made from what `read` yields at the same time.

        They are written where the reader has been already, so that the file needs its room on the disk only once.
        """
        waiting: deque[bytes] = deque()
        self._file.seek(0)
        written = 0
        for piece in pieces:
            waiting.append(bytes(piece))
            while waiting and written + len(waiting[0]) <= self._position:
                written += self._file.write(waiting.popleft())
        self._file.writelines(waiting)
        self._file.truncate()
