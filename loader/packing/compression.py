"""Compression: undoes the gzip of a source, and decides which layers of an archive get gzip.

Compression in vain costs some 20 s a GiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from loader.crypto.archive_head import GZIP, PLAIN
from loader.crypto.gzip_members import OUTPUT_SIZE, GzipReader, compress
from loader.crypto.streaming_aead import Buffer
from loader.errors import CorruptCiphertext

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# What gzip must save, in percent.
MIN_GAIN = 10
# The first pieces of 1 MiB decide at first.
START_PIECES = 4
# Of a layer that is stored plain, one piece of so many is compressed, because its start may differ from the rest.
SAMPLED_EACH = 16


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


def codec_of(size: int, compressed_size: int) -> str:
    """Return the codec for a content of `size` bytes that gzip makes `compressed_size` bytes of."""
    return GZIP if compressed_size * 100 <= size * (100 - MIN_GAIN) and size else PLAIN


def codec_of_sample(pieces: Sequence[bytes | bytearray]) -> str:
    """Return the codec for content of which these are a part."""
    return codec_of(sum(map(len, pieces)), sum(map(len, compress(pieces))))


class Samples:
    """Pieces of one content, taken while it passes."""

    def __init__(self) -> None:
        self._size = self._compressed_size = 0

    def watch(self, pieces: Iterable[bytes | bytearray]) -> Iterator[bytes | bytearray]:
        """Yield `pieces`, and compress some of them."""
        for number, piece in enumerate(pieces):
            if number % SAMPLED_EACH == 0:
                self._size += len(piece)
                self._compressed_size += sum(map(len, compress([piece])))
            yield piece

    @property
    def codec(self) -> str:
        """The codec that the samples ask for."""
        return codec_of(self._size, self._compressed_size)
