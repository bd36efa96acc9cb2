"""`images.enc`, format 2: a sealed OCI image layout.

    AZIMAGE2 | uint32 BE H | head | uint32 BE S | seals | uint32 BE P | present | blobs

`present` names the blobs that follow, by their piece digests of 32 bytes each, in the order of the head. They follow
without gaps, and then the file ends. docs/formats.md describes every byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from loader.crypto.archive_head import MAX_BLOBS, Blob, Head, StoredHead
from loader.crypto.archive_seals import Seals
from loader.crypto.json_header import JSON_MAX_SIZE, LENGTH_SIZE, SEALS_MAX_SIZE, read_json
from loader.crypto.pieces import DIGEST_SIZE
from loader.errors import CorruptCiphertext

MAGIC = b"AZIMAGE2"
_PRESENT_MAX_SIZE = MAX_BLOBS * DIGEST_SIZE
# The largest archive without any blob.
HEAD_MAX_SIZE = len(MAGIC) + JSON_MAX_SIZE + SEALS_MAX_SIZE + 3 * LENGTH_SIZE


class Readable(Protocol):
    """An open binary file that returns as many bytes as were asked for, unless it ends."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class ArchiveIndex:
    """All of an archive but its blobs, and where these are: `offsets` by the digests of their content, in bytes."""

    stored: StoredHead
    seals: Seals
    offsets: dict[str, int]
    size: int

    @property
    def head(self) -> Head:
        """The head; authentic only once the seals were opened."""
        return self.stored.head

    @property
    def absent(self) -> tuple[Blob, ...]:
        """The blobs that the file lacks. A full archive lacks none."""
        return tuple(blob for blob in self.head.blobs if blob.digest not in self.offsets)

    @classmethod
    def read(cls, archive: Readable, file_size: int) -> ArchiveIndex:
        """Read the start of a file of `file_size` bytes. Raises CorruptCiphertext, also if its size is another one."""
        if archive.read(len(MAGIC)) != MAGIC:
            raise CorruptCiphertext(f"it does not start with {MAGIC.decode()}")
        document, raw_head = read_json(archive.read, JSON_MAX_SIZE)
        stored = StoredHead(Head.parse(document), raw_head)
        document, raw_seals = read_json(archive.read, SEALS_MAX_SIZE)
        seals = Seals.parse(document)
        present = _read_present(archive, stored.head)
        start = len(MAGIC) + len(raw_head) + len(raw_seals) + LENGTH_SIZE + len(present) * DIGEST_SIZE
        offsets, end = _offsets(present, start)
        if file_size != end:
            raise CorruptCiphertext(f"it has {file_size} bytes instead of {end}")
        return cls(stored, seals, offsets, end)


def archive_start(stored: StoredHead, seals: Seals, present: Sequence[Blob]) -> bytes:
    """Return all bytes of an archive before its blobs. `present` are the blobs that follow, as the head orders them."""
    digests = b"".join(bytes.fromhex(blob.stored) for blob in present)
    return MAGIC + stored.raw + seals.to_bytes() + len(digests).to_bytes(LENGTH_SIZE, "big") + digests


def _read_present(archive: Readable, head: Head) -> list[Blob]:
    """Return the blobs that follow, which must be some of the head's in its order."""
    length = archive.read(LENGTH_SIZE)
    size = int.from_bytes(length, "big")
    if len(length) != LENGTH_SIZE or size % DIGEST_SIZE or size > _PRESENT_MAX_SIZE:
        raise CorruptCiphertext("its list of blobs is malformed")
    digests = archive.read(size)
    if len(digests) != size:
        raise CorruptCiphertext("it ends within its list of blobs")
    rest = iter(head.blobs)
    present = []
    for begin in range(0, size, DIGEST_SIZE):
        wanted = digests[begin : begin + DIGEST_SIZE].hex()
        blob = next((blob for blob in rest if blob.stored == wanted), None)
        if blob is None:
            raise CorruptCiphertext("its list of blobs is not that of its head")
        present.append(blob)
    return present


def _offsets(present: Sequence[Blob], start: int) -> tuple[dict[str, int], int]:
    offsets = {}
    for blob in present:
        offsets[blob.digest] = start
        start += blob.stored_size
    return offsets, start
