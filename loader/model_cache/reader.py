"""Reading a big part from the cache, whether it is whole or still growing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from loader.errors import ApiUnreachable
from loader.model_cache.download import Fetch, Stream
from loader.model_cache.part_file import BigFile

SKIP_SIZE = 1 << 20


class CacheReader:
    """A source over the part's bytes. Reading waits for bytes that are on their way. Close it: it counts."""

    def __init__(self, file: BigFile, fetch: Fetch, leave: Callable[[], None]) -> None:
        """`leave` is called once, at close."""
        self._file = file
        self._fetch = fetch
        self._leave = leave
        self._position = 0
        self._closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        """Raises what ended the transfer early, and StorageError."""
        count = self._file.read_at(self._position, buffer)
        self._position += count
        return count

    def seek(self, offset: int, /) -> int:
        """Go to an offset from the begin."""
        self._position = offset
        return offset

    def repair(self, begin: int, end: int) -> None:
        """Fetch the bytes from `begin` to `end` anew, unless another reader has done so. Raises what `fetch` does."""
        with self._file.repairing:
            if begin in self._file.repaired:
                return
            with closing(self._fetch(begin, end, None)) as stream:
                # From 0 on, where ranges are ignored.
                for offset in range(stream.begin, begin, SKIP_SIZE):
                    _read(stream, min(SKIP_SIZE, begin - offset))
                piece = _read(stream, end - begin)
            if self._file.patch(begin, piece):
                self._file.repaired.add(begin)

    def close(self) -> None:
        """Leave the part; harmless if done before."""
        if not self._closed:
            self._closed = True
            self._leave()


def _read(stream: Stream, size: int) -> memoryview:
    piece = memoryview(bytearray(size))
    rest = piece
    while rest:
        count = stream.readinto(rest)
        if not count:
            raise ApiUnreachable("The transfer ended before the part did.")
        rest = rest[count:]
    return piece
