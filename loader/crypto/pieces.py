"""SHA-256 of a stream, and piece digests: SHA-256 over the concatenated SHA-256 digests of its pieces of 1 MiB.

Other cores compute both while the consumer of the stream works with the same pieces. A reader that keeps the digests of
the pieces, 32 KiB for a GiB, can compare each later.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from loader.crypto.work_ahead import CORES, WorkAhead

Buffer = bytes | bytearray | memoryview

PIECE_SIZE = 1 << 20
DIGEST_SIZE = 32
# A smaller piece is hashed faster than it is handed to a helper.
HELP_MIN_SIZE = 1 << 16


def cut(pieces: Iterable[Buffer]) -> Iterator[bytes | bytearray]:
    """Yield the bytes of `pieces`, which may have any length, in pieces of 1 MiB that nobody changes later.

    The last piece has the rest. It is empty only if there are no bytes at all.
    """
    buffer, filled, is_empty = bytearray(), 0, True
    for piece in pieces:
        if isinstance(piece, bytes) and len(piece) == PIECE_SIZE and not filled:
            yield piece
            is_empty = False
            continue
        rest = memoryview(piece)
        while rest:
            if not filled:
                # All of the buffer at once, because one that grows is moved many times.
                buffer = bytearray(PIECE_SIZE)
            taken = min(len(rest), PIECE_SIZE - filled)
            # A view takes the bytes directly, where a slice of a bytearray would first copy them.
            memoryview(buffer)[filled : filled + taken] = rest[:taken]
            filled, rest = filled + taken, rest[taken:]
            if filled == PIECE_SIZE:
                yield buffer
                filled, is_empty = 0, False
    if filled or is_empty:
        yield buffer[:filled]


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


class PieceDigests:
    """The digests of the pieces of one stream of bytes, in their order."""

    lag = CORES

    def __init__(self) -> None:
        self._digests = bytearray()
        self._lock = threading.Lock()
        self._work = WorkAhead[bytes]()

    def add(self, piece: Buffer) -> None:
        """Add the next piece, which has 1 MiB; only the last piece may have less.

        It is hashed in a while: it must not change before `lag` further pieces were added or `hex` was called.
        """
        self.add_later(functools.partial(_digest, piece))

    def add_later(self, digest: Callable[[], bytes]) -> None:
        """Add the next piece by a function that returns its SHA-256, on any thread, before `lag` further ones start."""
        self._work.put(digest)
        while len(self._work) > self.lag:
            self._digests += self._work.get()

    def hex(self) -> str:
        """Return the piece digest of all that was added, 64 hex digits."""
        while self._work:
            self._digests += self._work.get()
        return hashlib.sha256(self._digests).hexdigest()

    def note(self, number: int, piece: Buffer) -> None:
        """Add the piece of this number, in any order and on any thread. Never use it together with `add`."""
        digest, begin = _digest(piece), number * DIGEST_SIZE
        with self._lock:
            missing = begin + DIGEST_SIZE - len(self._digests)
            self._digests += bytes(max(0, missing))
            self._digests[begin : begin + DIGEST_SIZE] = digest

    def match(self, number: int, piece: Buffer) -> bool:
        """Return whether `piece` is the piece of this number. Call `hex` before."""
        return is_piece(self._digests, number, piece)


class PieceHash:
    """Computes the piece digest of bytes that come one after another, in any lengths."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._sha256 = hashlib.sha256()
        self._room = PIECE_SIZE

    def update(self, data: Buffer) -> None:
        """Add the next bytes."""
        rest = memoryview(data)
        while rest:
            taken = rest[: self._room]
            self._sha256.update(taken)
            self._room -= len(taken)
            rest = rest[len(taken) :]
            if not self._room:
                self._digests += self._sha256.digest()
                self._sha256, self._room = hashlib.sha256(), PIECE_SIZE

    def digests(self) -> bytes:
        """Return the digests of all pieces so far, one after another: 32 bytes each."""
        return bytes(self._digests) + (self._sha256.digest() if self._room < PIECE_SIZE else b"")

    def hex(self) -> str:
        """Return the piece digest of all bytes so far, 64 hex digits."""
        return digest_of_pieces(self.digests())


def digest_of_pieces(digests: bytes) -> str:
    """Return the piece digest, 64 hex digits, of the bytes whose pieces have these digests."""
    return hashlib.sha256(digests).hexdigest()


def is_piece(digests: Buffer, number: int, piece: Buffer) -> bool:
    """Return whether `piece` is the one of this number among the pieces with these digests."""
    begin = number * DIGEST_SIZE
    return _digest(piece) == digests[begin : begin + DIGEST_SIZE]


def _digest(piece: Buffer) -> bytes:
    return hashlib.sha256(piece).digest()
