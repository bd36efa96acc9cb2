"""A fake upstream that serves big parts from memory to a ModelCache in this process, with faults at exact bytes."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from loader.crypto.model_parts import BigPart, ResourceName, SmallPart
from loader.errors import ApiUnreachable, LoaderError
from loader.model_cache.cache import ModelCache
from loader.model_cache.part_file import Fetch
from loader.resources import Model, Plaintext, whole
from tests.support.sealed_objects import seal_resource

FOLDER = "models"
MIB = 1 << 20
SECONDS = 20.0
CONTENT = random.Random("content").randbytes(3 * MIB)  # noqa: S311  # a file's content, no secret


@dataclass
class MemoryPart:
    """A resource, and the faults with which its big part is served.

    cuts: the number of bytes after which each of the next responses ends.
    gate: the offset from which nothing is sent until `opened` is set.
    damage_once: offsets of bytes that are sent wrongly once.
    down: whether every request fails without a response.
    first: where the response to a range begins that begins at this offset.
    fetches, sent: the number of requests, and of bytes sent.
    """

    name: ResourceName
    content: bytes
    small: SmallPart
    data: bytes
    cuts: list[int] = field(default_factory=list)
    gate: int | None = None
    opened: threading.Event = field(default_factory=threading.Event)
    damage_once: set[int] = field(default_factory=set)
    down: bool = False
    first: Callable[[int], int] = lambda begin: begin
    fetches: int = 0
    sent: int = 0

    @property
    def big(self) -> BigPart:
        """Return the description of the big part in the small part."""
        assert self.small.big is not None
        return self.small.big

    @property
    def model(self) -> Model:
        """Return the model, as the API describes it."""
        return Model(self.name, self.small)

    @property
    def fetch(self) -> Fetch:
        """Return the function that `ModelCache.open` calls to fetch a range."""

        def fetch(begin: int, end: int | None) -> MemoryStream:
            self.fetches += 1
            if self.down:
                raise ApiUnreachable("It is down.")
            return MemoryStream(self, self.first(begin), len(self.data) if end is None else end)

        return fetch

    def plaintext(self, cache: ModelCache) -> Plaintext:
        """Start a load through `cache` and return its plaintext. Raises LoaderError as a load does."""
        big = cache.open(self.big, self.name.path, self.fetch)
        try:
            return Plaintext(self.model, big, whole(self.model), lambda: None, set())
        except BaseException:
            big.close()
            raise

    def load(self, cache: ModelCache) -> bytes:
        """Load through `cache`, and return the bytes that arrived before the end or before a LoaderError."""
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
    """One response; see `loader.model_cache.part_file.Stream`."""

    def __init__(self, part: MemoryPart, begin: int, end: int) -> None:
        self.begin = begin
        self.total: int | None = len(part.data)
        self._part = part
        self._position = begin
        self._end = min(end, begin + part.cuts.pop(0)) if part.cuts else end
        self._whole_end = end

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer`, and return the byte count. Raises ApiUnreachable where the response is cut."""
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

    def ended_early(self) -> ApiUnreachable:
        """Return the error for too few bytes."""
        return ApiUnreachable("It ended early.")

    def close(self) -> None:
        """Do nothing, because the stream holds no resource."""


def memory_part(filename: str, content: bytes) -> MemoryPart:
    """Seal `content`, and return it as a resource of a healthy upstream."""
    name, file = ResourceName(FOLDER, filename), io.BytesIO()
    small = seal_resource([content], name, file)
    return MemoryPart(name, content, small, file.getvalue())


def wait_until_idle(cache: ModelCache) -> None:
    """Wait until no file of `cache` is in use."""
    assert cache.wait_until_idle(SECONDS)
