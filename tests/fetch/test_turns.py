"""The end of a turn, in the middle of a download, is not taken for a failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loader.crypto.archive_head import PLAIN, Blob, Packed
from loader.crypto.pieces import PieceHash
from loader.crypto.segments import plaintext_size
from loader.errors import ApiUnreachable
from loader.fetch import blobs as blobs_module
from loader.fetch.blobs import BlobDownloads, BlobParts
from loader.fetch.pace import TURN_SECONDS, Pace
from loader.fetch.right_of_way import RightOfWay
from loader.fetch.sources import Api
from loader.model_cache.part_file import Stream

STORED = bytes(range(256)) * 1024


def blob() -> Blob:
    digest = PieceHash()
    digest.update(STORED)
    return Blob("sha256:" + "0" * 64, 0, PLAIN, Packed("0" * 64, plaintext_size(len(STORED))), digest.hex())


class Readable:
    """A stream that gives 1,000 bytes a read, and calls `on_read` after each and `on_close` at its end."""

    def __init__(self, begin: int, on_read: Callable[[], None], on_close: Callable[[], None]) -> None:
        self.begin = begin
        self.total: int | None = len(STORED)
        self.close = on_close
        self._on_read = on_read

    def readinto(self, buffer: memoryview, /) -> int:
        piece = STORED[self.begin : self.begin + 1000]
        buffer[: len(piece)] = piece
        self.begin += len(piece)
        self._on_read()
        return len(piece)

    def ended_early(self) -> ApiUnreachable:
        return ApiUnreachable("never")


def nothing() -> None:
    pass


class Place:
    """A source that counts how often it is asked. The first stream has hooks."""

    def __init__(self, on_read: Callable[[], None], on_close: Callable[[], None]) -> None:
        self.hooks = [(on_read, on_close)]
        self.asked = 0

    def open(self, _blob: Blob, begin: int, _end: int | None) -> Stream:
        self.asked += 1
        on_read, on_close = self.hooks.pop() if self.hooks else (nothing, nothing)
        return Readable(begin, on_read, on_close)


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Pace:
    made = Pace()
    monkeypatch.setattr(blobs_module, "Pace", lambda: made)
    return made


def end_turn_of_source(pace: Pace) -> None:
    pace.count(1, TURN_SECONDS, is_source=True)


def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Place, api: Place) -> None:
    """Download the blob, for which `api` stands in the place of the resource API."""
    monkeypatch.setattr(Api, "open", lambda _, blob, begin, end: api.open(blob, begin, end))
    BlobDownloads(BlobParts(tmp_path), RightOfWay(lambda: None), 0, source).run([blob()], nothing)
    assert (tmp_path / blob().stored).read_bytes() == STORED


def test_a_source_whose_turn_ended_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pace: Pace) -> None:
    """The API fails in its turn for another download, while this one is still ending its turn of the source."""
    source = Place(lambda: end_turn_of_source(pace), pace.end_trial)
    api = Place(nothing, nothing)
    download(tmp_path, monkeypatch, source, api)
    assert (source.asked, api.asked) == (2, 0)


class OneTurnOfTheSource(Pace):
    """It is the turn of the API, but for the moment of the second look."""

    looks = 0
    is_trial = False

    @property
    def asks_source(self) -> bool:
        self.looks += 1
        return self.looks == 2


def test_an_api_whose_turn_ended_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another download gives the turn to the source and back, between this one's start and its failure."""
    monkeypatch.setattr(blobs_module, "Pace", OneTurnOfTheSource)
    source, api = Place(nothing, nothing), Place(nothing, nothing)
    download(tmp_path, monkeypatch, source, api)
    assert (source.asked, api.asked) == (0, 1)
