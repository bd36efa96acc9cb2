"""Streams of Google Tink's AES-GCM-HKDF streaming AEAD, byte for byte, made of the segments in `segments`.

A few segments are sealed or opened ahead of the consumer, on all cores: see `work_ahead`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from Crypto.Random import get_random_bytes

from loader.crypto.segments import (
    FIRST_PLAINTEXT_SIZE,
    HEADER_SIZE,
    NONCE_PREFIX_SIZE,
    PLAINTEXT_SIZE,
    SALT_SIZE,
    SEGMENT_SIZE,
    TAG_SIZE,
    SegmentCipher,
    plaintext_size,
)
from loader.crypto.work_ahead import READ_AHEAD, WorkAhead
from loader.errors import CorruptCiphertext

Buffer = bytes | bytearray | memoryview
# Gets the number of a segment, and the segment as it is stored; with the header in front of the first one.
Prove = Callable[[int, memoryview], None]


class Source(Protocol):
    """Any binary file object, for a `DecryptingReader` to read from."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


def random_header() -> bytes:
    """Return a new header: its own size, a random salt and a random nonce prefix."""
    return bytes([HEADER_SIZE]) + get_random_bytes(SALT_SIZE + NONCE_PREFIX_SIZE)


def encrypt(
    plaintext: Iterable[Buffer], key_material: bytes, associated_data: bytes, header: bytes | None = None
) -> Iterator[memoryview]:
    """Yield the ciphertext of `plaintext`, which comes in pieces of any length: the header, then whole segments.

    Give a `header` only if no other plaintext ever meets it with the same key material and associated data.
    Each piece is a view that is valid until the next one is asked for. An exception of `plaintext` passes through: the
    last segment is then missing, so that an unfinished ciphertext never authenticates.
    """
    header = header or random_header()
    cipher = SegmentCipher.derive(header, key_material, associated_data)
    yield memoryview(header)
    work = WorkAhead[memoryview]()
    for number, last, segment in _cut(plaintext):
        work.put(functools.partial(cipher.seal, number, last, segment), alone=last and number == 0)
        if len(work) == READ_AHEAD:
            yield work.get()
    while work:
        yield work.get()


def _cut(plaintext: Iterable[Buffer]) -> Iterator[tuple[int, bool, memoryview]]:
    """Yield (number, last, buffer) for each segment of plaintext; the buffer has room for the tag.

    A full segment is yielded only after one more byte has come, because until then it may be the last one.
    """
    buffers = _Ring(SEGMENT_SIZE)
    number, filled, capacity = 0, 0, FIRST_PLAINTEXT_SIZE
    for piece in plaintext:
        rest = memoryview(piece)
        while rest:
            if filled == capacity:
                yield number, False, buffers[number][: filled + TAG_SIZE]
                number, filled, capacity = number + 1, 0, PLAINTEXT_SIZE
            taken = min(len(rest), capacity - filled)
            buffers[number][filled : filled + taken] = rest[:taken]
            filled, rest = filled + taken, rest[taken:]
    yield number, True, buffers[number][: filled + TAG_SIZE]


class DecryptingReader:
    """Iterates over the plaintext of a ciphertext of known size, one verified segment at a time.

    Each piece is a view that is valid until the next one is asked for. No byte of a segment is released before its tag
    is verified, and the last segment only after `source` has ended where it should. A failure is permanent: every later
    call raises it again. Raises CorruptCiphertext, and what `source` raises. The caller closes `source`.
    """

    def __init__(
        self,
        source: Source,
        size: int,
        key_material: bytes,
        associated_data: bytes,
        *,
        header: bytes | None = None,
        first_segment: int = 0,
        end_segment: int | None = None,
        prove: Prove | None = None,
    ) -> None:
        """Read nothing yet. `size` is the size of the whole ciphertext in bytes, header included.

        To start at a later segment, give its number and the 40-byte `header`; `source` must stand at that segment.
        Segments from `end_segment` on are neither read nor released.
        `prove` gets each segment before it is decrypted, on any thread, and raises CorruptCiphertext to refuse it.
        """
        self.plaintext_size = plaintext_size(size)
        self._source = source
        self._size = size
        self._segments = -(-size // SEGMENT_SIZE)
        self._end = self._segments if end_segment is None else end_segment
        self._derive = functools.partial(
            SegmentCipher.derive, key_material=key_material, associated_data=associated_data
        )
        self._cipher = self._derive(header) if header is not None else None
        self._prove = prove
        self._buffers = _Ring(size)
        self._first = self._read = self._released = first_segment
        self._work = WorkAhead[memoryview]()
        self._failure: BaseException | None = None

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        if self._failure is not None:
            raise self._failure
        if self._released >= self._end:
            raise StopIteration
        try:
            self._read_ahead()
            segment = self._work.get()
        except BaseException as exc:
            self._failure = exc
            raise
        self._released += 1
        return segment

    def _read_ahead(self) -> None:
        # Open the window one segment at a time, because a slow source should deliver its first segment at once.
        window = min(self._released - self._first + 1, READ_AHEAD)
        while len(self._work) < window and self._read < self._end:
            number, last = self._read, self._read == self._segments - 1
            try:
                piece = self._read_segment(number, last)
            except Exception as exc:  # noqa: BLE001  # it is raised after the segments that were read before it
                self._work.put(functools.partial(_raise, exc), alone=True)
                self._read = self._end
                return
            self._read += 1
            self._work.put(functools.partial(self._open, number, last, piece), alone=number == self._first)

    def _read_segment(self, number: int, last: bool) -> memoryview:
        """Return a segment as it is stored; the first one with the header in front of it."""
        size = min(SEGMENT_SIZE, self._size - number * SEGMENT_SIZE)
        piece = self._read_exactly(self._buffers[number][:size])
        if last and self._source.readinto(memoryview(bytearray(1))):
            raise CorruptCiphertext("bytes follow the last segment")
        return piece

    def _open(self, number: int, last: bool, piece: memoryview) -> memoryview:
        if self._prove is not None:
            self._prove(number, piece)
        header_size = 0 if number else HEADER_SIZE
        if self._cipher is None:
            # The first segment is opened alone, so that every later one finds the cipher.
            self._cipher = self._derive(bytes(piece[:header_size]))
        return self._cipher.open(number, last, piece[header_size:])

    def _read_exactly(self, buffer: memoryview) -> memoryview:
        filled = 0
        while filled < len(buffer):
            count = self._source.readinto(buffer[filled:])
            if not count:
                raise CorruptCiphertext("the ciphertext is cut short")
            filled += count
        return buffer


class _Ring:
    """The segment buffers of one stream: made when first needed, then reused in turn.

    `READ_AHEAD` buffers are enough, because the consumer gives a buffer back when it asks for the next segment.
    """

    def __init__(self, stream_size: int) -> None:
        """Make buffers of at most `stream_size` bytes, because a short stream fills no segment."""
        self._segment_size = min(SEGMENT_SIZE, stream_size)
        self._buffers: list[memoryview] = []

    def __getitem__(self, number: int) -> memoryview:
        while len(self._buffers) <= min(number, READ_AHEAD - 1):
            self._buffers.append(memoryview(bytearray(self._segment_size)))
        return self._buffers[number % READ_AHEAD]


def _raise(exc: Exception) -> memoryview:
    raise exc
