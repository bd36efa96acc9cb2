"""A program for the memory test: one long stream sealed or opened; prints by how many bytes its memory grew at most.

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
    """The content of a sparse file of that size, which takes no room on the disk."""
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
    """Bytes that came out of sealing so many."""
    return sum(len(piece) for piece in encrypt(zeros(size), KEY, AD))


def open_(size: int) -> int:
    """Bytes that came out of opening so many, which a second stream seals at the same time."""
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
