"""ModelCache in this process: the retries of a download, and two users of one file that must not disturb each other."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from loader.crypto.pieces import PieceHash
from loader.errors import StorageError
from loader.model_cache import part_file
from loader.model_cache.cache import ModelCache
from loader.model_cache.directory import CacheDirectory
from loader.model_cache.part_file import BigFile
from loader.patience import FIRST_WAIT
from tests.model_cache.memory_upstream import CONTENT, MIB, SECONDS, MemoryPart, memory_part, wait_until_idle
from tests.support.flips import flip_in_file
from tests.support.processes import poll

PATIENCE = 60.0


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the list of the pauses of all downloads, in seconds. A pause takes no time, but the clock goes on."""
    made: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + sum(made), sleep=made.append)
    monkeypatch.setattr("loader.model_cache.download.time", clock)
    monkeypatch.setattr("loader.patience.time", clock)
    return made


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    """Return a cache whose downloads are given up after a minute without a byte."""
    return ModelCache(tmp_path / "cache", 0, PATIENCE)


def hashed(data: bytes) -> PieceHash:
    digest = PieceHash()
    digest.update(data)
    return digest


def test_a_download_is_given_up_after_its_patience(cache: ModelCache, part: MemoryPart, waits: list[float]) -> None:
    part.down = True
    assert part.load(cache) == b""
    assert PATIENCE / 2 < sum(waits) <= PATIENCE
    assert len(waits) < 15


def test_an_attempt_that_receives_bytes_renews_the_patience(
    cache: ModelCache, part: MemoryPart, waits: list[float]
) -> None:
    part.cuts = [*[0] * 4, 100, *[0] * 4, 1, *[0] * 4, MIB]
    assert part.load(cache) == CONTENT
    assert part.fetches == 16
    assert max(waits[4], waits[9]) <= FIRST_WAIT
    assert part.sent == len(part.data)


def test_bytes_received_again_do_not_renew_the_patience_when_ranges_are_ignored(
    cache: ModelCache, part: MemoryPart, waits: list[float]
) -> None:
    fetch_part = part.fetch

    def fetch(_begin: int, _end: int | None) -> part_file.Stream:
        return fetch_part(0, None)

    part.cuts = [MIB, 1000] * 100
    reader = cache.open(part.big, "part", fetch)
    poll(lambda: not cache.status().downloads, SECONDS, "the download gives up")
    reader.close()
    assert PATIENCE / 2 < sum(waits) <= PATIENCE


def test_an_entry_whose_download_cannot_start_does_not_block_later_loads(tmp_path: Path, part: MemoryPart) -> None:
    """The cache cannot remove an old entry to make room, so each load raises an error at once and none waits."""
    cache = ModelCache(tmp_path, MIB, 1)
    obstacles = [tmp_path / f"{digit * 64}.partial" for digit in "012"]
    for obstacle in obstacles:
        obstacle.with_suffix(".big").write_bytes(bytes(MIB))
        obstacle.mkdir()
    for _ in range(2):
        with pytest.raises(StorageError):
            cache.open(part.big, "part", part.fetch)
    for obstacle in obstacles:
        obstacle.rmdir()
    assert part.load(cache) == CONTENT


def test_a_process_never_gives_the_final_name_to_the_partial_file_of_another_process(
    tmp_path: Path, part: MemoryPart
) -> None:
    """One process removed the file of the other process to make room, and started the same download again."""
    directory = CacheDirectory(tmp_path, 0)
    first = BigFile(directory, part.big)
    first.append(memoryview(part.data))
    directory.remove(part.big.digest)
    second = BigFile(directory, part.big)
    second.append(memoryview(part.data)[:MIB])
    assert first.prove(hashed(part.data))
    assert not directory.big(part.big.digest).exists()
    assert directory.partial(part.big.digest).read_bytes() == part.data[:MIB]
    first.close()
    second.close()


def test_a_repair_beyond_the_end_of_a_restarted_file_writes_nothing(tmp_path: Path, part: MemoryPart) -> None:
    file = BigFile(CacheDirectory(tmp_path, 0), part.big)
    file.append(memoryview(part.data)[: 2 * MIB])
    assert file.patch(MIB, memoryview(part.data)[MIB : MIB + 100])
    file.restart()
    assert not file.patch(MIB, memoryview(part.data)[MIB : MIB + 100])
    file.append(memoryview(part.data)[:1000])
    assert next(tmp_path.iterdir()).read_bytes() == part.data[:1000]
    file.close()


def test_a_reader_continues_when_the_file_restarts_during_its_read(
    tmp_path: Path, part: MemoryPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = BigFile(CacheDirectory(tmp_path, 0), part.big)
    file.append(memoryview(part.data)[:MIB])
    preadv = os.preadv

    def preadv_after_restart(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        monkeypatch.undo()
        file.restart()
        count = preadv(descriptor, buffers, offset)
        file.append(memoryview(part.data)[:MIB])
        return count

    monkeypatch.setattr(os, "preadv", preadv_after_restart)
    buffer = memoryview(bytearray(1000))
    assert file.read_at(5000, buffer) == 1000
    assert buffer == part.data[5000:6000]
    file.close()


def test_an_unexpected_exception_in_a_download_ends_the_wait_of_its_reader(cache: ModelCache, part: MemoryPart) -> None:
    def fetch(_begin: int, _end: int | None) -> part_file.Stream:
        raise ZeroDivisionError

    reader = cache.open(part.big, "part", fetch)
    with pytest.raises(Exception, match="its log says why"):
        reader.readinto(memoryview(bytearray(10)))
    reader.close()
    wait_until_idle(cache)
    assert part.load(cache) == CONTENT


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(lambda begin: begin - begin % 4096, id="aligned to blocks"),
        pytest.param(lambda begin: max(0, begin - 1), id="a byte early"),
        pytest.param(lambda begin: begin - begin % MIB, id="aligned to chunks of a CDN"),
        pytest.param(lambda _: 0, id="whole"),
    ],
)
def test_many_readers_get_the_right_bytes_from_a_server_that_begins_early(
    cache: ModelCache, waits: list[float], first: Callable[[int], int]
) -> None:
    part = memory_part("part", CONTENT)
    part.cuts = [MIB + k * 100_000 for k in range(1, 25)]
    part.first = first
    arrived: list[bytes] = []
    readers = [threading.Thread(target=lambda: arrived.append(part.load(cache))) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(SECONDS)
    assert arrived == [CONTENT] * 4
    assert waits


def test_a_range_that_begins_too_late_is_refused_and_keeps_what_is_here(cache: ModelCache, part: MemoryPart) -> None:
    part.first = lambda begin: begin and begin + 5
    part.cuts = [MIB]
    with closing(cache.open(part.big, "part", part.fetch)):
        poll(lambda: not cache.status().downloads, SECONDS, "the download gives up")
    wait_until_idle(cache)
    (partial,) = (file for file in cache._directory.path.iterdir() if file.suffix == ".partial")
    assert partial.read_bytes() == part.data[:MIB]


def test_a_repaired_part_has_no_final_name_until_it_is_verified_again(tmp_path: Path, part: MemoryPart) -> None:
    """A restart in between must not find damaged bytes under the name that promises a verified digest."""
    directory = CacheDirectory(tmp_path, 0)
    file = BigFile(directory, part.big)
    file.append(memoryview(part.data))
    assert file.prove(hashed(part.data))
    assert file.patch(5, memoryview(b"other bytes"))
    assert not file.verified
    assert not directory.big(part.big.digest).exists()
    assert directory.partial(part.big.digest).exists()
    file.patch(5, memoryview(part.data)[5:16])
    file.settle()
    assert directory.big(part.big.digest).read_bytes() == part.data
    file.close()


def test_a_segment_that_is_damaged_again_while_in_use_is_repaired_again(
    cache: ModelCache, part: MemoryPart, tmp_path: Path
) -> None:
    directory = CacheDirectory(tmp_path / "cache", 0)
    with closing(part.plaintext(cache)):
        wait_until_idle(cache)
        flip_in_file(directory.big(part.big.digest), 0)
        with closing(part.plaintext(cache)):  # its constructor repairs the first segment
            flip_in_file(directory.partial(part.big.digest), 0)
            assert part.load(cache) == CONTENT
