"""SHA-256 of a stream, computed on another core while the consumer of the stream works with the same piece."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from loader.crypto.work_ahead import WorkAhead

# A smaller piece is hashed faster than it is handed to a helper.
HELP_MIN_SIZE = 1 << 16


class Digest(NamedTuple):
    """The SHA-256 of some bytes, 64 hex digits, and how many they are."""

    sha256: str
    size: int


class StreamDigest:
    """The SHA-256 and the size of all pieces that were added."""

    def __init__(self) -> None:
        self._size = 0
        self._sha256 = hashlib.sha256()
        self._work = WorkAhead[None]()

    def add(self, piece: bytes | bytearray) -> None:
        """Add the next piece. It must not change before the next call."""
        self._finish()
        self._size += len(piece)
        self._work.put(functools.partial(self._sha256.update, piece), alone=len(piece) < HELP_MIN_SIZE)

    def watch(self, pieces: Iterable[bytes | bytearray]) -> Iterator[bytes | bytearray]:
        """Yield `pieces`, each of which is added before."""
        for piece in pieces:
            self.add(piece)
            yield piece

    def result(self) -> Digest:
        """Return the digest of all that was added."""
        self._finish()
        return Digest(self._sha256.hexdigest(), self._size)

    def _finish(self) -> None:
        while self._work:
            self._work.get()
