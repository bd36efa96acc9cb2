"""Undoes the gzip of a source, and refuses what it cannot undo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from loader.crypto.gzip_members import GzipReader
from loader.crypto.streaming_aead import Buffer
from loader.errors import CorruptCiphertext, SourceCorrupt

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def is_gzip(what: str, start: Buffer) -> bool:
    """Return whether bytes with this start are gzip. Raises SourceCorrupt if they are zstd."""
    if bytes(start[:4]) == _ZSTD_MAGIC:
        raise SourceCorrupt(f"{what} is compressed with zstd; export the images uncompressed or with gzip.")
    return bytes(start[:2]) == _GZIP_MAGIC


def inflated(what: str, pieces: Iterable[Buffer], max_size: int) -> Iterator[bytes]:
    """Yield the content of gzip, at most `max_size` bytes. Raises SourceCorrupt.

    Zeros behind its end are left out, as gunzip does: tapes and disks have them.
    """
    reader = GzipReader(max_size, padded=True)
    try:
        for piece in pieces:
            yield from reader.feed(piece)
        reader.end()
    except CorruptCiphertext as exc:
        raise SourceCorrupt(f"{what} is damaged, or larger than {max_size} bytes: {exc}.") from exc
