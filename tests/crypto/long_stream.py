"""A program for the memory test: seal or open one long stream and print the peak growth of its memory in bytes.

python -m tests.crypto.long_stream seal|open BYTES
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

from loader.crypto.segments import ciphertext_size
from loader.crypto.streaming_aead import DecryptingReader, encrypt
from tests.crypto.streams import AD, KEY
from tests.support.procfs import peak_rss_bytes, reset_peak_rss

PIECE = 1 << 20


def zeros(size: int) -> Iterator[bytes]:
    """Yield the content of a sparse file of `size` bytes, which needs no disk space."""
    with tempfile.TemporaryFile(buffering=0) as file:
        file.truncate(size)
        while piece := file.read(PIECE):
            yield piece


class Ciphertext:
    """A source whose content is sealed as it is read."""

    def __init__(self, size: int) -> None:
        self._pieces = encrypt(zeros(size), KEY, AD)
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        if not self._rest:
            self._rest = next(self._pieces, memoryview(b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def seal(size: int) -> int:
    """Seal `size` bytes and return the size of the ciphertext."""
    return sum(len(piece) for piece in encrypt(zeros(size), KEY, AD))


def open_(size: int) -> int:
    """Open a ciphertext of `size` bytes of plaintext, sealed as it is read, and return the size of the plaintext."""
    return sum(len(piece) for piece in DecryptingReader(Ciphertext(size), ciphertext_size(size), KEY, AD))


def main() -> None:
    work, size = {"seal": seal, "open": open_}[sys.argv[1]], int(sys.argv[2])
    work(1000)
    reset_peak_rss(os.getpid())
    before = peak_rss_bytes(os.getpid())
    done = work(size)
    expected = ciphertext_size(size) if work is seal else size
    if done != expected:
        raise SystemExit(f"{done} bytes came out instead of {expected}")
    print(peak_rss_bytes(os.getpid()) - before)


if __name__ == "__main__":
    main()
