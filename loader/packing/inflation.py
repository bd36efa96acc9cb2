"""Undoes the gzip of a source, and refuses what it cannot undo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from loader.crypto.gzip_members import OUTPUT_SIZE, GzipReader
from loader.crypto.streaming_aead import Buffer
from loader.errors import CorruptCiphertext

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def is_gzip(start: Buffer) -> bool:
    """Return whether bytes with this start are gzip. Raises CorruptCiphertext if they are zstd."""
    if bytes(start[:4]) == _ZSTD_MAGIC:
        raise CorruptCiphertext("it is compressed with zstd; export the images uncompressed or with gzip")
    return bytes(start[:2]) == _GZIP_MAGIC


def inflated(pieces: Iterable[Buffer], max_size: int) -> Iterator[bytes]:
    """Yield the content of gzip. Raises CorruptCiphertext, also if it has more than `max_size` bytes.

    Zeros behind its end are left out, as gunzip does: tapes and disks have them.
    """
    reader, size = GzipReader(max_size + OUTPUT_SIZE, padded=True), 0
    for piece in pieces:
        for content in reader.feed(piece):
            size += len(content)
            if size > max_size:
                raise CorruptCiphertext(f"its gzip holds more than {max_size} bytes")
            yield content
    reader.end()
