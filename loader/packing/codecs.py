"""Which codec a layer deserves: gzip if it saves enough, because compression in vain costs some 20 s a GiB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from loader.crypto.archive_head import GZIP, PLAIN
from loader.crypto.gzip_members import compress

# What gzip must save, in percent.
MIN_GAIN = 10
# The first pieces of 1 MiB decide at first.
START_PIECES = 4
# Of a layer that is stored plain, one piece of so many is compressed, because its start may differ from the rest.
SAMPLED_EACH = 16


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
