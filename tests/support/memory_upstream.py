"""An upstream of big parts in memory, for a ModelCache in this process: it does as it is told, byte by byte."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field

from loader.crypto.model_parts import BigPart, ResourceName, SmallPart, seal_resource
from loader.errors import ApiUnreachable, LoaderError
from loader.model_cache.cache import ModelCache
from loader.model_cache.part_file import Fetch
from loader.resources import Plaintext

FOLDER = "models"


@dataclass
class MemoryPart:
    """A resource and how its big part is served. `cuts`: bytes after which the next answers end.

    `gate`: an offset from which nothing comes until `opened` is set. `damage_once`: offsets that come wrong once.
    `down`: no answer at all. `fetches` and `sent` count.
    """

    name: ResourceName
    content: bytes
    small: SmallPart
    data: bytes
    etag: str | None = '"1"'
    cuts: list[int] = field(default_factory=list)
    gate: int | None = None
    opened: threading.Event = field(default_factory=threading.Event)
    damage_once: set[int] = field(default_factory=set)
    down: bool = False
    fetches: int = 0
    sent: int = 0

    @property
    def big(self) -> BigPart:
        """What the small part says of the big one."""
        assert self.small.big is not None
        return self.small.big

    @property
    def fetch(self) -> Fetch:
        """For `ModelCache.open`."""

        def fetch(begin: int, end: int | None, etag: str | None) -> MemoryStream:
            self.fetches += 1
            if self.down:
                raise ApiUnreachable("It is down.")
            if etag is not None and etag != self.etag:
                begin, end = 0, None
            return MemoryStream(self, begin, len(self.data) if end is None else end)

        return fetch

    def plaintext(self, cache: ModelCache) -> Plaintext:
        """A load through `cache`; raises what one may raise."""
        big = cache.open(self.big, self.name.path, self.fetch)
        try:
            return Plaintext(self.name, self.small, big, lambda: None, set())
        except BaseException:
            big.close()
            raise

    def load(self, cache: ModelCache) -> bytes:
        """What arrives of a load, whether it ends well or by an error of ours."""
        arrived = bytearray()
        try:
            plaintext = self.plaintext(cache)
        except LoaderError:
            return b""
        try:
            for piece in plaintext:
                arrived += piece
        except LoaderError:
            pass
        finally:
            plaintext.close()
        return bytes(arrived)


class MemoryStream:
    """One answer; see `loader.model_cache.part_file.Stream`."""

    def __init__(self, part: MemoryPart, begin: int, end: int) -> None:
        self.begin = begin
        self.total: int | None = len(part.data)
        self.etag = part.etag
        self._part = part
        self._position = begin
        self._end = min(end, begin + part.cuts.pop(0)) if part.cuts else end
        self._whole_end = end

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the begin of `buffer`; raises ApiUnreachable where the answer is cut."""
        part = self._part
        end = min(self._end, self._position + len(buffer))
        if part.gate is not None and not part.opened.is_set():
            if self._position >= part.gate:
                part.opened.wait()
                raise ApiUnreachable("It was held back for too long.")
            end = min(end, part.gate)
        if self._position == self._end < self._whole_end:
            raise ApiUnreachable("It was cut.")
        piece = bytearray(part.data[self._position : end])
        for offset in [offset for offset in part.damage_once if self._position <= offset < end]:
            part.damage_once.discard(offset)
            piece[offset - self._position] ^= 1
        buffer[: len(piece)] = piece
        self._position += len(piece)
        part.sent += len(piece)
        return len(piece)

    def close(self) -> None:
        """Nothing to give back."""


def memory_part(filename: str, content: bytes) -> MemoryPart:
    """Seal `content`."""
    name, file = ResourceName(FOLDER, filename), io.BytesIO()
    small = seal_resource([content], name, file)
    return MemoryPart(name, content, small, file.getvalue())
