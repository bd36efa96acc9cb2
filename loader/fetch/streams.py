"""One blob and its stream, as the downloads of the model cache see them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from loader.errors import ApiUnreachable
from loader.fetch.right_of_way import RightOfWay
from loader.model_cache.part_file import BigFile, Stream

NOT_WANTED = "The download is no longer wanted here."


@dataclass(frozen=True)
class StoredBytes:
    """The stored bytes of a blob, as a part of the model cache is described."""

    size: int
    digest: str


class WantedStream:
    """Reads `stream` as the right of way permits, and as long as it is wanted.

    `count` gets the size of each read in bytes, and its seconds.
    """

    def __init__(
        self,
        stream: Stream,
        right_of_way: RightOfWay,
        is_wanted: Callable[[], bool],
        count: Callable[[int, float], None],
    ) -> None:
        self.begin, self.total = stream.begin, stream.total
        self.close, self.ended_early = stream.close, stream.ended_early
        self._stream = stream
        self._right_of_way = right_of_way
        self._is_wanted = is_wanted
        self._count = count

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the start of `buffer`, and return how many bytes came. Raises ApiUnreachable once it is not wanted."""
        self._right_of_way.wait(self._is_wanted)
        if not self._is_wanted():
            raise ApiUnreachable(NOT_WANTED)
        started = time.monotonic()
        count = self._stream.readinto(buffer)
        self._count(count or 0, time.monotonic() - started)
        self._right_of_way.count(count or 0)
        return count


class BlobInUse:
    """A blob, as its download sees it: nothing else reads it, and nothing is removed for it."""

    def __init__(self, file: BigFile, is_wanted: Callable[[], bool]) -> None:
        self.file = file
        self.is_wanted = is_wanted

    def leave(self) -> None:
        self.file.close()

    def evict_one(self) -> bool:
        return False
