"""A model as it is stored: one streaming ciphertext C under a random key, split into a small and a big object.

    small = AZSMALL1 | uint32 BE N | N bytes of JSON: key, size, big | head
    big   = the rest of C, named by its SHA-256

The head is the first 65,536 bytes of C, or all of it. The associated data is `folder/filename`, so that no model can be
served in the place of another. The big object is worthless without the small one, which contains the key.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from Crypto.Random import get_random_bytes

from loader.crypto.json_header import JSON_MAX_SIZE, exactly, is_size, parse_base64, read_header, require, write_header
from loader.crypto.segments import HEADER_SIZE, SEGMENT_SIZE, ciphertext_size, plaintext_size
from loader.crypto.streaming_aead import Buffer, DecryptingReader, Source, encrypt
from loader.errors import CorruptCiphertext

MAGIC = b"AZSMALL1"
HEAD_SIZE = 65_536
KEY_SIZE = 32
SMALL_MAX_SIZE = len(MAGIC) + 4 + JSON_MAX_SIZE + HEAD_SIZE

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ResourceName:
    """The name of a model: `folder` may be empty or nested. The web layer checks both."""

    folder: str
    filename: str

    @property
    def path(self) -> str:
        """`folder/filename`, or `filename` without a folder; the associated data of the ciphertext."""
        return f"{self.folder}/{self.filename}" if self.folder else self.filename

    @property
    def small(self) -> str:
        """The path of the small object."""
        return f"{self.path}.small"

    def big(self, sha256: str) -> str:
        """Return the path of the big object with this digest."""
        return f"{self.path}.{sha256}.big"


@dataclass(frozen=True)
class BigPart:
    """The big object that belongs to a small one: its size in bytes and its SHA-256 in hex."""

    size: int
    sha256: str


class SeekableSource(Source, Protocol):
    """A source that can go to an offset from its start."""

    def seek(self, offset: int, /) -> int: ...


@dataclass(frozen=True)
class SmallPart:
    """The small object. `size` is that of the plaintext in bytes; `big` is None if the head is the whole ciphertext."""

    key: bytes = field(repr=False)
    size: int
    big: BigPart | None
    head: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return the object as it is stored."""
        big = None if self.big is None else {"size": self.big.size, "sha256": self.big.sha256}
        document = {"key": base64.b64encode(self.key).decode(), "size": self.size, "big": big}
        return write_header(MAGIC, document) + self.head

    @classmethod
    def from_bytes(cls, data: bytes) -> SmallPart:
        """Parse a stored object. Raises CorruptCiphertext for anything that the format does not allow."""
        stream = io.BytesIO(data)
        document, _ = read_header(MAGIC, stream.read)
        key, size, big = exactly(document, "key", "size", "big")
        require(is_size(size), "size")
        part = cls(parse_base64(key, KEY_SIZE, "key"), size, _parse_big(big), stream.read())
        total = ciphertext_size(size)
        if len(part.head) != min(HEAD_SIZE, total) or len(part.head) + (part.big.size if part.big else 0) != total:
            raise CorruptCiphertext("its head and its big part do not add up to its size")
        return part

    def decrypt(self, name: ResourceName, big: SeekableSource | None, first_segment: int = 0) -> DecryptingReader:
        """Return a reader of the plaintext from a segment on. `big` reads the big object; None if there is none."""
        begin = first_segment * SEGMENT_SIZE
        if big is not None:
            big.seek(max(0, begin - len(self.head)))
        return DecryptingReader(
            _HeadThenBig(self.head[begin:], big),
            ciphertext_size(self.size),
            self.key,
            name.path.encode(),
            header=self.head[:HEADER_SIZE] if first_segment else None,
            first_segment=first_segment,
        )

    def big_range(self, segment: int) -> tuple[int, int]:
        """Return where in the big object a segment lies: first offset and end, equal if the segment is not there."""
        begin = max(segment * SEGMENT_SIZE - HEAD_SIZE, 0)
        end = min((segment + 1) * SEGMENT_SIZE, ciphertext_size(self.size)) - HEAD_SIZE
        return begin, max(begin, end)


def _parse_big(value: Any) -> BigPart | None:
    if value is None:
        return None
    require(isinstance(value, dict), "big")
    size, sha256 = exactly(value, "size", "sha256")
    require(is_size(size) and size > 0, "big")
    require(isinstance(sha256, str) and _SHA256.fullmatch(sha256), "big")
    return BigPart(size, sha256)


class _HeadThenBig:
    """Reads the whole ciphertext: the head, then the big object."""

    def __init__(self, head: bytes, big: Source | None) -> None:
        self._head = memoryview(head)
        self._big = big

    def readinto(self, buffer: memoryview, /) -> int | None:
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        return self._big.readinto(buffer) if self._big is not None else 0


def seal_resource(plaintext: Iterable[Buffer], name: ResourceName, big_file: BinaryIO) -> SmallPart:
    """Encrypt `plaintext` under a fresh key, write the big object to `big_file` and return the small one."""
    key = get_random_bytes(KEY_SIZE)
    head, digest, total = bytearray(), hashlib.sha256(), 0
    for piece in encrypt(plaintext, key, name.path.encode()):
        room = HEAD_SIZE - len(head)
        head += piece[:room]
        rest = piece[room:] if room else piece
        digest.update(rest)
        big_file.write(rest)
        total += len(piece)
    big = BigPart(total - len(head), digest.hexdigest()) if total > len(head) else None
    return SmallPart(key, plaintext_size(total), big, bytes(head))
