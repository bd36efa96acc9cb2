"""The codec gzip of blobs: members of 1 MiB of content each (RFC 1952, section 2.2), made on all cores.

Every gunzip reads the members as one stream. The same content gives the same bytes with the same zlib.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Iterator

from loader.crypto.pieces import PIECE_SIZE, cut
from loader.crypto.streaming_aead import Buffer
from loader.crypto.work_ahead import CORES, WorkAhead
from loader.errors import CorruptCiphertext

# Level 6 takes three times as long and is a tenth smaller.
LEVEL = 1
# zlib adds this to the size of its window to read and write gzip.
_GZIP = 16 + zlib.MAX_WBITS
OUTPUT_SIZE = PIECE_SIZE


def compress(pieces: Iterable[Buffer]) -> Iterator[bytes]:
    """Yield members that hold `pieces`, which may have any length; no content is one empty member."""
    work = WorkAhead[bytes]()
    for content in cut(pieces):
        work.put(functools.partial(_member, content))
        if len(work) > CORES:
            yield work.get()
    while work:
        yield work.get()


def _member(content: Buffer) -> bytes:
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    return deflater.compress(content) + deflater.flush()


class GzipReader:
    """Inflates gzip of any maker, of one or many members, and ends where the last member ends."""

    def __init__(self, max_size: int) -> None:
        """`max_size` is how many bytes of content may come."""
        self._left = max_size
        self._inflater = zlib.decompressobj(_GZIP)
        self._is_within_member = True

    def feed(self, piece: Buffer) -> Iterator[bytes]:
        """Yield the content of the next bytes, in pieces of at most 1 MiB. Raises CorruptCiphertext."""
        rest: Buffer = piece
        # zlib may hold back content after it has taken all input, if the content so far has filled the output.
        is_full = False
        while len(rest) or is_full:
            if not self._is_within_member:
                self._inflater, self._is_within_member = zlib.decompressobj(_GZIP), True
            try:
                content = self._inflater.decompress(rest, OUTPUT_SIZE)
            except zlib.error:
                raise CorruptCiphertext("its gzip is damaged") from None
            self._left -= len(content)
            if self._left < 0:
                raise CorruptCiphertext("its gzip holds more than it announces")
            if content:
                yield content
            self._is_within_member = not self._inflater.eof
            rest = self._inflater.unconsumed_tail if self._is_within_member else self._inflater.unused_data
            is_full = self._is_within_member and len(content) == OUTPUT_SIZE

    def end(self) -> None:
        """Say that no byte follows. Raises CorruptCiphertext if that is within a member."""
        if self._is_within_member:
            raise CorruptCiphertext("its gzip is cut short")


def decompress(pieces: Iterable[Buffer], size: int) -> Iterator[bytes]:
    """Yield the content of gzip `pieces`. Raises CorruptCiphertext, also if it has another size than `size`."""
    reader, left = GzipReader(size), size
    for piece in pieces:
        for content in reader.feed(piece):
            left -= len(content)
            yield content
    reader.end()
    if left:
        raise CorruptCiphertext("its gzip holds less than it announces")
