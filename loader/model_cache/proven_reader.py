"""A big part of which no byte is released before it is proven to be the one that a signed small part names.

The tags of the segments do not prove it: every account that may load a model has its key, and can seal
other bytes under it.
"""

from __future__ import annotations

from contextlib import suppress

from loader.crypto.pieces import PIECE_SIZE, PieceHash, digest_of_pieces, is_piece
from loader.errors import CorruptCiphertext, ResourceCorrupt, StorageError
from loader.model_cache.part_reader import CacheReader

WRONG = "its big part is not the one that its small part names"


class ProvenReader:
    """Reads a part like `reader`, which it closes. Raises CorruptCiphertext for a piece that stays wrong.

    The pieces are compared with digests that were proven, and not only once: the file may change after any proof.
    """

    def __init__(self, reader: CacheReader) -> None:
        """Return once the part is proven: the first time it has to be whole for that, and is read to its end.

        Raises CorruptCiphertext, and what `reader` raises.
        """
        self._reader = reader
        self._digests = _proven_digests(reader)
        self._buffer = memoryview(bytearray(min(PIECE_SIZE, reader.file.part.size)))
        self._piece, self._begin = self._buffer[:0], 0
        self._position = 0

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer` and return how many bytes that are; 0 at the end."""
        if self._position >= self._reader.file.part.size:
            return 0
        if not self._begin <= self._position < self._begin + len(self._piece):
            self._read_piece(self._position // PIECE_SIZE)
        rest = self._piece[self._position - self._begin :]
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        self._position += count
        return count

    def seek(self, offset: int, /) -> int:
        """Go to an offset from the start."""
        self._position = offset
        return offset

    def repair(self, _begin: int, _end: int) -> None:
        """Do nothing, because the bytes are right: a segment that does not authenticate was sealed so."""

    def close(self) -> None:
        """Leave the part."""
        self._reader.close()

    def _read_piece(self, number: int) -> None:
        """Read a piece; download it again if it is wrong."""
        self._begin = number * PIECE_SIZE
        piece = self._buffer[: self._reader.file.part.size - self._begin]
        # An exception must leave nothing behind that could be taken for a proven piece.
        self._piece = self._buffer[:0]
        if not self._is_read(number, piece):
            self._reader.repair(self._begin, self._begin + len(piece))
            if not self._is_read(number, piece):
                raise CorruptCiphertext(WRONG)
        self._piece = piece

    def _is_read(self, number: int, piece: memoryview) -> bool:
        """Fill `piece` from the part, and return whether it is right."""
        self._reader.seek(number * PIECE_SIZE)
        filled = 0
        while filled < len(piece):
            count = self._reader.readinto(piece[filled:])
            if not count:
                return False
            filled += count
        return is_piece(self._digests, number, piece)


def _proven_digests(reader: CacheReader) -> bytes:
    """Return the digests of the pieces that the small part means."""
    part = reader.file.part
    # One piece is hashed sooner than its digest is read from the disk.
    is_long = part.size > PIECE_SIZE
    if is_long and digest_of_pieces(kept := reader.file.piece_digests()) == part.digest:
        return kept
    found, buffer = PieceHash(), memoryview(bytearray(min(PIECE_SIZE, part.size)))
    reader.seek(0)
    while count := reader.readinto(buffer):
        found.update(buffer[:count])
    if found.hex() != part.digest:
        # The next reader must get a new download, also while this file is still in use.
        with suppress(StorageError):
            reader.file.remove()
        reader.file.fail(ResourceCorrupt(f"A download was refused: {WRONG}."))
        raise CorruptCiphertext(WRONG)
    if is_long:
        reader.file.keep_piece_digests(found.digests())
    return found.digests()
