"""Reads one big part for a load: waits for bytes that are still to come, and repairs damaged ones."""

from __future__ import annotations

import logging
from contextlib import closing

from loader.errors import DeviceFault
from loader.files import Unreadable
from loader.model_cache.part_file import BigFile, Fetch, PartInUse, read_exactly, skip

log = logging.getLogger(__name__)

# What is fetched again from an unreadable byte on.
REPAIR_SIZE = 1 << 20
# Disks lose blocks of this size. A repair writes whole ones, because a part of one is written by reading the rest.
BLOCK_SIZE = 4096


class CacheReader:
    """Reads the bytes of a part, and waits for those that are still to come. The caller closes it."""

    def __init__(self, use: PartInUse, fetch: Fetch) -> None:
        """Leave `use` at `close`. `fetch` is for repairs."""
        self._use = use
        self._file = use.file
        self._fetch = fetch
        # Damage at a repair from before this reader is new; a later repair may have come after the reader's read.
        self._known_repairs = use.file.repaired.copy()
        # The bytes of the last repair and their offset, because the disk may refuse to store them.
        self._repaired, self._repaired_at = memoryview(b""), 0
        self._position = 0
        self._closed = False

    @property
    def file(self) -> BigFile:
        """The file of the part."""
        return self._file

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer`; see `BigFile.read_at`. Bytes that the disk has lost are downloaded again."""
        if not (count := self._read_repaired(buffer)):
            count = self._read_file(buffer)
        self._position += count
        return count

    def seek(self, offset: int, /) -> int:
        """Go to an offset from the start."""
        self._position = offset
        return offset

    def repair(self, begin: int, end: int) -> None:
        """Download the bytes from `begin` to `end` again, unless another reader has done so.

        Raises what `fetch` raises.
        """
        with self._file.repairing:
            if begin in self._file.repaired - self._known_repairs:
                self._known_repairs.add(begin)
                return
            with closing(self._fetch(begin, end)) as stream:
                skip(stream, begin)
                piece = read_exactly(stream, end - begin)
            self._repaired, self._repaired_at = piece, begin
            try:
                if self._file.patch(begin, piece):
                    self._file.repaired.add(begin)
                    self._known_repairs.add(begin)
            except DeviceFault as exc:
                log.warning("a repaired piece of a part was not stored: %s", exc)

    def _read_file(self, buffer: memoryview) -> int:
        while True:
            try:
                return self._file.read_at(self._position, buffer)
            except Unreadable as exc:
                begin = self._position // BLOCK_SIZE * BLOCK_SIZE
                end = min(begin + REPAIR_SIZE, self._file.part.size)
                log.warning("%s Downloading the bytes from %d to %d again.", exc, begin, end)
                self.repair(begin, end)
            if count := self._read_repaired(buffer):
                return count
            # Another reader has repaired the file, so it is read once more.

    def _read_repaired(self, buffer: memoryview) -> int:
        offset = self._position - self._repaired_at
        rest = self._repaired[offset:] if offset >= 0 else memoryview(b"")
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        return count

    def close(self) -> None:
        """Leave the part. Further calls do nothing."""
        if not self._closed:
            self._closed = True
            self._use.leave()
