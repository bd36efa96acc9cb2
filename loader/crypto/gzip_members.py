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
# How many bytes zlib gets at first of a member.
FIRST_INPUT = 1 << 14


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

    def __init__(self, max_size: int, *, padded: bool = False) -> None:
        """`max_size` is how many bytes of content may come, and `padded` whether zeros may follow the last member."""
        self._left = max_size
        self._padded = padded
        self._inflater = zlib.decompressobj(_GZIP)
        self._is_within_member = True
        self._is_padding = False
        self._taken = FIRST_INPUT

    def feed(self, piece: Buffer) -> Iterator[bytes]:
        """Yield the content of the next bytes, in pieces of at most 1 MiB. Raises CorruptCiphertext."""
        rest = memoryview(piece)
        # zlib may hold back content after it has taken all input, if the content so far has filled the output.
        is_full = False
        while rest or is_full:
            if not self._is_within_member and self._at_padding(rest):
                return
            content, rest = self._inflated(rest)
            self._left -= len(content)
            if self._left < 0:
                raise CorruptCiphertext("its gzip holds more than it announces")
            if content:
                yield content
            is_full = self._is_within_member and len(content) == OUTPUT_SIZE

    def end(self) -> None:
        """Say that no byte follows. Raises CorruptCiphertext if that is within a member."""
        if self._is_within_member:
            raise CorruptCiphertext("its gzip is cut short")

    def _at_padding(self, rest: memoryview) -> bool:
        """Return whether only zeros are left, else start the next member."""
        self._is_padding |= self._padded and not rest[0]
        if self._is_padding:
            if bytes(rest).count(0) != len(rest):
                raise CorruptCiphertext("bytes follow the zeros behind its gzip")
            return True
        self._inflater, self._is_within_member, self._taken = zlib.decompressobj(_GZIP), True, FIRST_INPUT
        return False

    def _inflated(self, rest: memoryview) -> tuple[bytes, memoryview]:
        """Return content of the current member, and the input that is left."""
        # zlib copies all input that it leaves. So it gets much only of a large member, or the time of reading many
        # small ones would grow with the square of their number.
        taken = rest[: self._taken]
        self._taken = min(8 * self._taken, PIECE_SIZE)
        try:
            content = self._inflater.decompress(taken, OUTPUT_SIZE)
        except zlib.error:
            raise CorruptCiphertext("its gzip is damaged") from None
        self._is_within_member = not self._inflater.eof
        left = self._inflater.unconsumed_tail if self._is_within_member else self._inflater.unused_data
        return content, rest[len(taken) - len(left) :]


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
