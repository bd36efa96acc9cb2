"""Sources that return short reads, end early, fail or lie, as files, pipes and sockets sometimes do."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable


class ShortSource(io.RawIOBase):
    """Delivers fewer bytes than asked for: at most the next of `steps` (repeated forever) at a time."""

    def __init__(self, data: bytes, steps: Iterable[int]) -> None:
        self._whole = self._data = memoryview(data)
        self._steps = itertools.cycle(steps)

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        assert whence == io.SEEK_SET
        self._data = self._whole[offset:]
        return offset

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # narrower, as the reader calls it
        count = min(len(buffer), next(self._steps), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


class EndingSource:
    """Delivers the first `good` bytes of `data`; later reads return `result`, or raise it."""

    def __init__(self, data: bytes, good: int, result: int | BaseException | None) -> None:
        self._inner = io.BytesIO(data[:good])
        self._result = result
        self.asked_beyond = 0

    def readinto(self, buffer: memoryview, /) -> int | None:
        count = self._inner.readinto(buffer)
        if count:
            return count
        self.asked_beyond += 1
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result


class RecordingSource(io.BytesIO):
    """Records every read: `asked` lists the size of each request."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked: list[int] = []

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # narrower, as the reader calls it
        self.asked.append(len(buffer))
        return super().readinto(buffer)


class LyingSource(io.BytesIO):
    """Claims to have filled the whole buffer but leaves the last byte of each request as it was."""

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # narrower, as the reader calls it
        count = super().readinto(buffer[:-1])
        return count + 1 if count else 0
