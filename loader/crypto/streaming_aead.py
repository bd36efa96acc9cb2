"""Streams of Google Tink's AES-GCM-HKDF streaming AEAD, byte for byte, made of the segments in `segments`.

A few segments are sealed or opened ahead of the consumer. The cipher releases the GIL, so that a helper thread for each
further core keeps all cores busy. The consumer works too instead of waiting, because a hand-over between threads costs
time. Of many streams only one consumer works beside the helpers, because more threads than cores would spend their time
on taking the GIL from each other.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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

# One segment for the consumer, one for a helper, and one that waits for the first of them to finish.
READ_AHEAD = 3
MAX_CORES = 4

Buffer = bytes | bytearray | memoryview


class Source(Protocol):
    """Any binary file object, for a `DecryptingReader` to read from."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


def encrypt(plaintext: Iterable[Buffer], key_material: bytes, associated_data: bytes) -> Iterator[memoryview]:
    """Yield the ciphertext of `plaintext`, which comes in pieces of any length, in pieces of at most 1 MiB.

    Each piece is a view that is valid until the next one is asked for. An exception of `plaintext` passes through: the
    last segment is then missing, so that an unfinished ciphertext never authenticates.
    """
    header = bytes([HEADER_SIZE]) + get_random_bytes(SALT_SIZE + NONCE_PREFIX_SIZE)
    cipher = SegmentCipher.derive(header, key_material, associated_data)
    yield memoryview(header)
    work = WorkAhead()
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

    _process = staticmethod(SegmentCipher.open)

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
        """Read nothing yet. `size` is the size of the whole ciphertext in bytes, header included.

        To start at a later segment, give its number and the 40-byte `header`; `source` must stand at that segment.
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
        self._work = WorkAhead()
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
        # Open the window one segment at a time, because a slow source should deliver its first segment at once.
        window = min(self._released - self._first + 1, READ_AHEAD)
        while len(self._work) < window and self._read < self._segments:
            number, last = self._read, self._read == self._segments - 1
            try:
                cipher, segment = self._read_segment(number, last)
            except Exception as exc:  # noqa: BLE001  # it is raised after the segments that were read before it
                self._work.put(functools.partial(_raise, exc), alone=True)
                self._read = self._segments
                return
            self._read += 1
            self._work.put(functools.partial(self._process, cipher, number, last, segment), alone=number == self._first)

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
    """Verifies without decrypting: each piece is the ciphertext of a verified segment, without its tag."""

    _process = staticmethod(SegmentCipher.verify)


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


# Held by the one consumer that works beside the helpers.
_beside_helpers = threading.Lock()


class WorkAhead:
    """A queue of work on segments for one consumer, which gets the results in the order of the work."""

    def __init__(self) -> None:
        self._pending: deque[_Work] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, do: Callable[[], memoryview], *, alone: bool = False) -> None:
        """Queue `do`. No helper is asked if the work is `alone`, because the consumer would only wait."""
        self._pending.append(_Work(do, None if alone else _submitted(do)))

    def get(self) -> memoryview:
        """Return the oldest result, or raise what its work raised."""
        oldest = self._pending.popleft()
        if oldest.helped is None:
            return oldest.do()
        if _beside_helpers.acquire(blocking=False):
            try:
                for work in (oldest, *self._pending):
                    if oldest.helped.done():
                        break
                    work.do_unless_started()
            finally:
                _beside_helpers.release()
        return oldest.helped.result()


class _Work:
    """Work that a helper does, or the consumer if no helper has started it."""

    def __init__(self, do: Callable[[], memoryview], helped: Future[memoryview] | None) -> None:
        self.do = do
        self.helped = helped

    def do_unless_started(self) -> None:
        if self.helped is not None and self.helped.cancel():
            self.helped = Future()
            try:
                self.helped.set_result(self.do())
            except Exception as exc:  # noqa: BLE001  # the consumer gets it in its turn
                self.helped.set_exception(exc)


def _submitted(do: Callable[[], memoryview]) -> Future[memoryview] | None:
    helpers = _helpers()
    if helpers is not None:
        # At the end of the process the helpers take no more work.
        with suppress(RuntimeError):
            return helpers.submit(do)
    return None


@functools.cache
def _helpers() -> ThreadPoolExecutor | None:
    """Return the helpers that all streams share, so that many transfers do not mean many threads."""
    cores = min(MAX_CORES, os.cpu_count() or 1)
    return ThreadPoolExecutor(cores - 1, thread_name_prefix="segments") if cores > 1 else None
