"""A model as it is stored: one streaming ciphertext C under a random key, split into a small and a big object.

    small = AZSMALL2 | uint32 BE N | header | uint32 BE S | seals | head
    header  JSON: key, size, serial, created, big {size, digest, object}
    seals   JSON: signatures
    big   = the rest of C, under a random name

The head is the first 65,536 bytes of C, or all of it. The associated data is `folder/filename`, so that no model can be
served in the place of another. The big object is worthless without the small one, which contains the key.

A signature covers `azaion-loader/2 model\\0` | uint16 BE length | folder/filename | uint32 BE N | header | head.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from Crypto.Random import get_random_bytes

from loader.crypto.json_header import (
    JSON_MAX_SIZE,
    SEALS_MAX_SIZE,
    Signature,
    exactly,
    is_integer,
    is_size,
    is_text,
    is_time,
    parse_base64,
    parse_signatures,
    read_header,
    read_json,
    require,
    signature_documents,
    to_base64,
    write_json,
)
from loader.crypto.pieces import PieceHash
from loader.crypto.segments import HEADER_SIZE, SEGMENT_SIZE, ciphertext_size, plaintext_size
from loader.crypto.streaming_aead import Buffer, DecryptingReader, Source, encrypt
from loader.errors import CorruptCiphertext

MAGIC = b"AZSMALL2"
HEAD_SIZE = 65_536
KEY_SIZE = 32
OBJECT_SIZE = 16
SMALL_SUFFIX = ".small"
SMALL_MAX_SIZE = len(MAGIC) + 4 + JSON_MAX_SIZE + 4 + SEALS_MAX_SIZE + HEAD_SIZE
MODEL_LABEL = b"azaion-loader/2 model\0"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_OBJECT = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ResourceName:
    """The name of a model: `folder` may be empty or nested. The web layer checks both."""

    folder: str
    filename: str

    @classmethod
    def of_small(cls, path: str) -> ResourceName | None:
        """Return the name of the model with the small object at `path`; None if that is no path of a small object."""
        folder, _, filename = path.removesuffix(SMALL_SUFFIX).rpartition("/")
        return cls(folder, filename) if path.endswith(SMALL_SUFFIX) else None

    @property
    def path(self) -> str:
        """`folder/filename`, or `filename` without a folder; the associated data of the ciphertext."""
        return f"{self.folder}/{self.filename}" if self.folder else self.filename

    @property
    def small(self) -> str:
        """The path of the small object."""
        return f"{self.path}{SMALL_SUFFIX}"

    def big(self, part: BigPart) -> str:
        """Return the path of the big object."""
        return self.big_object(part.object)

    def big_object(self, name: str) -> str:
        """Return the path of a big object by the random part of its name."""
        return f"{self.path}.{name}.big"


@dataclass(frozen=True)
class BigPart:
    """The big object that belongs to a small one: its size in bytes, and its piece digest in hex.

    `object` is the random part of its name, 32 hex digits, which is known before its content.
    """

    size: int
    digest: str
    object: str

    @classmethod
    def parse(cls, document: Any) -> BigPart | None:
        """Parse the field `big`. Raises CorruptCiphertext."""
        if document is None:
            return None
        require(isinstance(document, dict), "big")
        size, digest, name = exactly(document, "size", "digest", "object")
        require(is_size(size) and size > 0, "big")
        require(is_text(digest, _DIGEST), "big")
        require(is_text(name, _OBJECT), "big")
        return cls(size, digest, name)


class SeekableSource(Source, Protocol):
    """A source that can go to an offset from its start."""

    def seek(self, offset: int, /) -> int: ...


@dataclass(frozen=True)
class Edition:
    """Which edition of a model it is: `serial` grows with each upload, `created` is RFC 3339."""

    serial: int
    created: str

    def __str__(self) -> str:
        """Return both for a person."""
        return f"serial {self.serial} of {self.created}"


@dataclass(frozen=True)
class SealedModel:
    """A sealed model that no header describes yet. `size` is that of the plaintext in bytes; see `SmallPart`."""

    key: bytes = field(repr=False)
    size: int
    big: BigPart | None
    head: bytes = field(repr=False)

    def described(self, edition: Edition) -> SmallPart:
        """Return the small part of this edition, without a signature."""
        big = None if self.big is None else asdict(self.big)
        document = {
            "key": to_base64(self.key),
            "size": self.size,
            "serial": edition.serial,
            "created": edition.created,
            "big": big,
        }
        header = write_json(document, JSON_MAX_SIZE)
        return SmallPart(self.key, self.size, edition, self.big, self.head, header, ())


@dataclass(frozen=True)
class SmallPart:
    """The small object. `size` is that of the plaintext in bytes; `big` is None if the head is the whole ciphertext.

    `header` is uint32 BE N and the header as they are stored, because a signature covers these very bytes.
    """

    key: bytes = field(repr=False)
    size: int
    edition: Edition
    big: BigPart | None
    head: bytes = field(repr=False)
    header: bytes = field(repr=False)
    signatures: tuple[Signature, ...]

    @property
    def identity(self) -> str:
        """64 hex digits that each upload has of its own: the SHA-256 of the header, which has a new key each time."""
        return hashlib.sha256(self.header).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the object as it is stored."""
        seals = write_json({"signatures": signature_documents(self.signatures)}, SEALS_MAX_SIZE)
        return MAGIC + self.header + seals + self.head

    @classmethod
    def from_bytes(cls, data: bytes) -> SmallPart:
        """Parse a stored object. Raises CorruptCiphertext for anything that the format does not allow."""
        stream = io.BytesIO(data)
        document, raw = read_header(MAGIC, stream.read)
        key, size, serial, created, big = exactly(document, "key", "size", "serial", "created", "big")
        require(is_size(size), "size")
        require(is_integer(serial), "serial")
        require(is_time(created), "created")
        seals, _ = read_json(stream.read, SEALS_MAX_SIZE)
        signatures = parse_signatures(*exactly(seals, "signatures"))
        key, parsed, head = parse_base64(key, KEY_SIZE, "key"), BigPart.parse(big), stream.read()
        total = ciphertext_size(size)
        if len(head) != min(HEAD_SIZE, total) or len(head) + (parsed.size if parsed else 0) != total:
            raise CorruptCiphertext("its head and its big part do not add up to its size")
        return cls(key, size, Edition(serial, created), parsed, head, raw.removeprefix(MAGIC), signatures)

    def named(self, name: ResourceName) -> NamedModel:
        """Return what a signature of this model under this name covers."""
        return NamedModel(name, self.header, self.head)

    def decrypt(
        self, name: ResourceName, big: SeekableSource | None, first_segment: int = 0, end_segment: int | None = None
    ) -> DecryptingReader:
        """Return a reader of the plaintext of some segments, None being the end of the model.

        `big` reads the big object; None if there is none. No other bytes of it are read than those of these segments.
        """
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
            end_segment=end_segment,
        )

    def big_range(self, segment: int) -> tuple[int, int]:
        """Return where in the big object a segment lies: first offset and end, equal if the segment is not there."""
        begin = max(segment * SEGMENT_SIZE - HEAD_SIZE, 0)
        end = min((segment + 1) * SEGMENT_SIZE, ciphertext_size(self.size)) - HEAD_SIZE
        return begin, max(begin, end)


@dataclass(frozen=True)
class NamedModel:
    """A model under a name, as it is signed: see `SmallPart`."""

    name: ResourceName
    header: bytes = field(repr=False)
    head: bytes = field(repr=False)

    @property
    def signed(self) -> bytes:
        """What a signature of the model covers."""
        path = self.name.path.encode()
        return b"".join((MODEL_LABEL, len(path).to_bytes(2, "big"), path, self.header, self.head))

    @property
    def digest(self) -> str:
        """The SHA-256 of what a signature covers, 64 hex digits: another one for each upload."""
        return hashlib.sha256(self.signed).hexdigest()


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


class Sink(Protocol):
    """A file that only grows."""

    def write(self, piece: memoryview, /) -> object: ...


def new_object() -> str:
    """Return the random part of the name of a big object, 32 hex digits."""
    return get_random_bytes(OBJECT_SIZE).hex()


def seal_model(
    plaintext: Iterable[Buffer], name: ResourceName, big_file: Sink, object_name: str | None = None
) -> SealedModel:
    """Encrypt `plaintext` under a fresh key, write the big object to `big_file` and return the rest.

    `object_name` is what `new_object` has returned, for a caller that sends the big object before it is whole.
    """
    object_name = object_name or new_object()
    key = get_random_bytes(KEY_SIZE)
    head, digest, total = bytearray(), PieceHash(), 0
    for piece in encrypt(plaintext, key, name.path.encode()):
        room = HEAD_SIZE - len(head)
        head += piece[:room]
        rest = piece[room:] if room else piece
        digest.update(rest)
        if rest:
            big_file.write(rest)
        total += len(piece)
    big = BigPart(total - len(head), digest.hex(), object_name) if total > len(head) else None
    return SealedModel(key, plaintext_size(total), big, bytes(head))
