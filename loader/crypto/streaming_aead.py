"""Streaming AEAD: Google Tink's AES-GCM-HKDF streaming, template AES256_GCM_HKDF_1MB, byte for byte.

    ciphertext = header | segment 0 | segment 1 | ... | last segment
    header     = 0x28 | 32-byte salt | 7-byte nonce prefix
    segment    = AES-256-GCM ciphertext | 16-byte tag
    nonce      = nonce prefix | uint32 BE segment number | 0x01 for the last segment, else 0x00

The header counts as part of the first segment's 1 MiB, so segment n lies at bytes n MiB to n+1 MiB of the ciphertext
and the number and length of all segments follow from its size. Reference: Tink, "AES-GCM-HKDF Streaming AEAD".

Segments are sealed and opened a few ahead of the consumer.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from Crypto.Cipher import AES
from Crypto.Random import get_random_bytes

from loader.crypto.ghash import ciphertext_tag
from loader.crypto.key_derivation import segment_key
from loader.crypto.segment_work import SegmentWork
from loader.errors import CorruptCiphertext

SEGMENT_SIZE = 1 << 20
HEADER_SIZE = 40
SALT_SIZE = 32
NONCE_PREFIX_SIZE = 7
TAG_SIZE = 16
FIRST_PLAINTEXT_SIZE = SEGMENT_SIZE - HEADER_SIZE - TAG_SIZE
PLAINTEXT_SIZE = SEGMENT_SIZE - TAG_SIZE

# Segments in work: those that the consumer and a helper have begun, and one that waits for whoever is done first.
READ_AHEAD = 3

Buffer = bytes | bytearray | memoryview


class Source(Protocol):
    """What a `DecryptingReader` reads from: any binary file object."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


def ciphertext_size(plaintext_size: int) -> int:
    """Bytes of ciphertext, header included, of so many bytes of plaintext."""
    further = max(0, plaintext_size - FIRST_PLAINTEXT_SIZE)
    segments = 1 + -(-further // PLAINTEXT_SIZE)
    return HEADER_SIZE + plaintext_size + segments * TAG_SIZE


def plaintext_size(ciphertext_size_: int) -> int:
    """Bytes of plaintext in so many bytes of ciphertext; raises CorruptCiphertext for a size that no ciphertext has."""
    segments = -(-ciphertext_size_ // SEGMENT_SIZE)
    size = ciphertext_size_ - HEADER_SIZE - segments * TAG_SIZE
    if size < 0 or ciphertext_size(size) != ciphertext_size_:
        raise CorruptCiphertext(f"no ciphertext has {ciphertext_size_} bytes")
    return size


@dataclass(frozen=True)
class SegmentCipher:
    """Seals and opens single segments of one ciphertext, in place and in any order."""

    key: bytes = field(repr=False)
    nonce_prefix: bytes

    @classmethod
    def derive(cls, header: bytes, key_material: bytes, associated_data: bytes) -> SegmentCipher:
        """The cipher that the 40-byte `header` names; raises CorruptCiphertext if it is no header."""
        if len(header) != HEADER_SIZE or header[0] != HEADER_SIZE:
            raise CorruptCiphertext("not a header of a streaming ciphertext")
        salt = header[1 : 1 + SALT_SIZE]
        return cls(segment_key(key_material, salt, associated_data), header[1 + SALT_SIZE :])

    def seal(self, number: int, last: bool, segment: memoryview) -> memoryview:
        """Turn `segment` (plaintext and 16 bytes of room) into ciphertext and tag, and return it."""
        text, tag = segment[:-TAG_SIZE], segment[-TAG_SIZE:]
        tag[:] = self._gcm(number, last).encrypt_and_digest(text, output=text)[1]
        return segment

    def open(self, number: int, last: bool, segment: memoryview) -> memoryview:
        """Turn `segment` (ciphertext and tag) into plaintext, returned as a view of its first part.

        A segment that does not authenticate raises CorruptCiphertext and is wiped: the cipher decrypts before it
        compares the tag, so that the buffer holds unverified plaintext at that moment.
        """
        text, tag = segment[:-TAG_SIZE], segment[-TAG_SIZE:]
        try:
            self._gcm(number, last).decrypt_and_verify(text, tag, output=text)
        except ValueError:
            text[:] = bytes(len(text))
            raise CorruptCiphertext(f"segment {number} does not authenticate", number) from None
        return text

    def verify(self, number: int, last: bool, segment: memoryview) -> memoryview:
        """Only that `segment` authenticates; raises CorruptCiphertext. Returned is its first part, still ciphertext."""
        text, tag = segment[:-TAG_SIZE], segment[-TAG_SIZE:]
        if not hmac.compare_digest(ciphertext_tag(self.key, self._nonce(number, last), text), tag):
            raise CorruptCiphertext(f"segment {number} does not authenticate", number)
        return text

    def _gcm(self, number: int, last: bool):  # type: ignore[no-untyped-def]  # the package keeps its mode classes private
        return AES.new(self.key, AES.MODE_GCM, nonce=self._nonce(number, last))

    def _nonce(self, number: int, last: bool) -> bytes:
        # It never repeats under one key: the key is fresh for each ciphertext, the number for each segment.
        return self.nonce_prefix + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


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
