"""Streaming AEAD: Google Tink's AES-GCM-HKDF streaming, byte for byte, as streams of the segments of `segment_cipher`.

Segments are sealed and opened a few ahead of the consumer.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
from loader.errors import CorruptCiphertext

# Segments in work: those that the consumer and a helper have begun, and one that waits for whoever is done first.
READ_AHEAD = 3

Buffer = bytes | bytearray | memoryview


class Source(Protocol):
    """What a `DecryptingReader` reads from: any binary file object."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


def encrypt(plaintext: Iterable[Buffer], key_material: bytes, associated_data: bytes) -> Iterator[memoryview]:
    """The ciphertext of `plaintext` (pieces of any length) in pieces of at most 1 MiB.

    Each piece is a view that is valid until the next is asked for. An exception of `plaintext` passes through and
    leaves the ciphertext without its last segment, so that nothing half-written ever authenticates.
    """
    header = bytes([HEADER_SIZE]) + get_random_bytes(SALT_SIZE + NONCE_PREFIX_SIZE)
    cipher = SegmentCipher.derive(header, key_material, associated_data)
    yield memoryview(header)
    work = SegmentWork()
    for number, last, segment in _cut(plaintext):
        work.put(functools.partial(cipher.seal, number, last, segment), alone=last and number == 0)
        if len(work) == READ_AHEAD:
            yield work.get()
    while work:
        yield work.get()


def _cut(plaintext: Iterable[Buffer]) -> Iterator[tuple[int, bool, memoryview]]:
    """Segments of plaintext, each in a buffer with room for its tag: (number, last, buffer).

    A full segment is handed out only when a further byte has come, since only then it is known not to be the last.
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
    """Iterates over the plaintext of a ciphertext of known size, a verified segment at a time.

    Each piece is a view that is valid until the next is asked for. Nothing of a segment is released before its tag
    verified, nor the last one before `source` has ended where it should. Any failure sticks: every later call raises it
    again. Raises CorruptCiphertext, or whatever `source` raises. `source` stays the caller's to close.
    """

    _treat = staticmethod(SegmentCipher.open)

    def __init__(
        self,
        source: Source,
        size: int,
        key_material: bytes,
        associated_data: bytes,
        *,
        header: bytes | None = None,
        first_segment: int = 0,
    ) -> None:
        """`size` is that of the ciphertext in bytes, header included; nothing is read yet.

        To begin at a later segment, give its number and the `header`: `source` then stands at that segment.
        """
        self.plaintext_size = plaintext_size(size)
        self._source = source
        self._size = size
        self._segments = -(-size // SEGMENT_SIZE)
        self._derive = functools.partial(
            SegmentCipher.derive, key_material=key_material, associated_data=associated_data
        )
        self._header = header
        self._cipher: SegmentCipher | None = None
        self._buffers = _Ring(size)
        self._first = self._read = self._released = first_segment
        self._work = SegmentWork()
        self._failure: BaseException | None = None

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        if self._failure is not None:
            raise self._failure
        if self._released == self._segments:
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
        # The window opens one segment at a time, so that a slow source delivers its first segment at once.
        window = min(self._released - self._first + 1, READ_AHEAD)
        while len(self._work) < window and self._read < self._segments:
            number, last = self._read, self._read == self._segments - 1
            try:
                cipher, segment = self._read_segment(number, last)
            except Exception as exc:  # noqa: BLE001  # its turn comes after the segments that were read before it
                self._work.put(functools.partial(_raise, exc), alone=True)
                self._read = self._segments
                return
            self._read += 1
            self._work.put(functools.partial(self._treat, cipher, number, last, segment), alone=number == self._first)

    def _read_segment(self, number: int, last: bool) -> tuple[SegmentCipher, memoryview]:
        if self._cipher is None:
            header = self._header or bytes(self._read_exactly(memoryview(bytearray(HEADER_SIZE))))
            self._cipher = self._derive(header)
        begin = max(number * SEGMENT_SIZE, HEADER_SIZE)
        end = min((number + 1) * SEGMENT_SIZE, self._size)
        segment = self._read_exactly(self._buffers[number][: end - begin])
        if last and self._source.readinto(memoryview(bytearray(1))):
            raise CorruptCiphertext("bytes follow the last segment")
        return self._cipher, segment

    def _read_exactly(self, buffer: memoryview) -> memoryview:
        filled = 0
        while filled < len(buffer):
            count = self._source.readinto(buffer[filled:])
            if not count:
                raise CorruptCiphertext("the ciphertext is cut short")
            filled += count
        return buffer


class VerifyingReader(DecryptingReader):
    """The same, but nothing is decrypted: each piece is the ciphertext of a segment that has verified, less its tag."""

    _treat = staticmethod(SegmentCipher.verify)


class _Ring:
    """The segment buffers of one stream, made when first needed and used again in turn."""

    # A segment's buffer is free again when the next one is asked for, so that those in work are all.
    SIZE = READ_AHEAD

    def __init__(self, stream_size: int) -> None:
        """A stream shorter than a segment needs no more than its own `stream_size` bytes."""
        self._segment_size = min(SEGMENT_SIZE, stream_size)
        self._buffers: list[memoryview] = []

    def __getitem__(self, number: int) -> memoryview:
        while len(self._buffers) <= min(number, self.SIZE - 1):
            self._buffers.append(memoryview(bytearray(self._segment_size)))
        return self._buffers[number % self.SIZE]


def _raise(exc: Exception) -> memoryview:
    raise exc


MAX_CORES = 4
# Held by the one thread that works beside the helpers.
_beside = threading.Lock()


class SegmentWork:
    """A queue of work on segments, for one consumer: results come out in the order in which work was put in."""

    def __init__(self) -> None:
        self._pending: deque[_Work] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, do: Callable[[], memoryview], *, alone: bool = False) -> None:
        """Let `do` be done. If it is `alone`, there is nothing to do beside it, and no helper is asked."""
        work = _Work(do)
        self._pending.append(work)
        if not alone and (helpers := _helpers()) is not None:
            # At the end of the process they take nothing any more; the consumer still can.
            with suppress(RuntimeError):
                helpers.submit(work.run)
                work.helped = True

    def get(self) -> memoryview:
        """The oldest result, or what its work raised."""
        oldest = self._pending.popleft()
        if not oldest.helped:
            oldest.run()
        elif _beside.acquire(blocking=False):
            try:
                self._work_until_done(oldest)
            finally:
                _beside.release()
        return oldest.result()

    def _work_until_done(self, oldest: _Work) -> None:
        for work in (oldest, *self._pending):
            if oldest.is_done:
                break
            work.run()


class _Work:
    """Done once, by whoever comes first."""

    def __init__(self, do: Callable[[], memoryview]) -> None:
        self._do = do
        self.helped = False
        self._result: memoryview | Exception
        self._begun = threading.Lock()
        self._running = threading.Lock()
        self._running.acquire()

    @property
    def is_done(self) -> bool:
        return not self._running.locked()

    def run(self) -> bool:
        """Do it, unless somebody has begun to; whether it was done here."""
        if not self._begun.acquire(blocking=False):
            return False
        try:
            self._result = self._do()
        except Exception as exc:  # noqa: BLE001  # it belongs to the consumer
            self._result = exc
        finally:
            self._running.release()
        return True

    def result(self) -> memoryview:
        with self._running:
            if isinstance(self._result, Exception):
                raise self._result
            return self._result


@functools.cache
def _helpers() -> ThreadPoolExecutor | None:
    """Shared by all streams, so that many transfers do not mean many threads; made at the first long stream."""
    cores = min(MAX_CORES, os.cpu_count() or 1)
    return ThreadPoolExecutor(cores - 1, thread_name_prefix="segments") if cores > 1 else None
