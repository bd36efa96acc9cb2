"""Room on the disk of the cache, which is known before the first byte: nothing is evicted for what cannot fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.crypto.model_parts import BigPart
from loader.errors import DiskSpace
from loader.model_cache.cache import ModelCache
from loader.model_cache.part_file import Stream
from tests.model_cache.memory_upstream import CONTENT, MIB, SECONDS, MemoryPart, memory_part, wait_until_idle
from tests.support.processes import poll
from tests.support.small_disk import fill, free_bytes, small_disk

DISK_SIZE = 12 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", DISK_SIZE) as mount_point:
        yield mount_point


@pytest.fixture
def cache(disk: Path) -> ModelCache:
    return ModelCache(disk / "cache", 0, 1)


def never(_begin: int, _end: int | None) -> Stream:
    raise AssertionError("nothing must be asked for")


def names(cache: ModelCache) -> list[str]:
    return sorted(path.name for path in cache._directory.path.iterdir())


def warm(cache: ModelCache, *parts: MemoryPart) -> None:
    for part in parts:
        assert part.load(cache) == part.content
        wait_until_idle(cache)


@pytest.mark.parametrize("size", [DISK_SIZE + 1, 200 << 30, 1 << 53])
def test_a_part_that_never_fits_evicts_nothing_and_is_not_asked_for(
    cache: ModelCache, disk: Path, part: MemoryPart, size: int
) -> None:
    warm(cache, part)
    before = names(cache)
    with pytest.raises(
        DiskSpace, match=rf"{disk}/cache needs at least {size} bytes, {free_bytes(disk)} bytes are free"
    ):
        cache.open(BigPart(size, "0" * 64, "0" * 32), "huge", never)
    assert names(cache) == before


def test_an_upload_that_never_fits_evicts_nothing_and_is_not_read(
    cache: ModelCache, disk: Path, part: MemoryPart
) -> None:
    warm(cache, part)
    before = names(cache)
    with pytest.raises(DiskSpace, match=f"{disk}/cache needs "), cache.upload(DISK_SIZE + 3 * MIB):
        raise AssertionError("nothing must be read")
    assert names(cache) == before


@pytest.mark.parametrize("size", [0, 100, MIB])
def test_a_small_upload_is_read_on_a_full_disk(cache: ModelCache, disk: Path, size: int) -> None:
    """All of it may be in the small part, which needs no room."""
    cache._directory.prepare()
    fill(disk, 0)
    with cache.upload(size):
        assert len(names(cache)) == 1


def test_a_limit_changes_nothing_about_that(disk: Path, part: MemoryPart) -> None:
    cache = ModelCache(disk / "cache", 1 << 60, 1)
    warm(cache, part)
    before = names(cache)
    with pytest.raises(DiskSpace):
        cache.open(BigPart(200 << 30, "0" * 64, "0" * 32), "huge", never)
    assert names(cache) == before


def test_a_part_above_the_limit_is_loaded_and_leaves_the_others(disk: Path) -> None:
    small, large = memory_part("small", CONTENT[:MIB]), memory_part("large", CONTENT)
    cache = ModelCache(disk / "cache", 2 * MIB, 1)
    warm(cache, small, large, large)
    assert names(cache) == [f"{small.big.digest}.big"]
    assert (small.fetches, large.fetches) == (1, 2)


def test_what_running_downloads_still_bring_is_no_room(cache: ModelCache, disk: Path, part: MemoryPart) -> None:
    part.gate = MIB
    reader = cache.open(part.big, "part", part.fetch)
    poll(lambda: cache.status().downloads[0].bytes_done == MIB, SECONDS, "the first MiB has arrived")
    other = memory_part("other", CONTENT[: 2 * MIB])
    filler = fill(disk, part.big.size - MIB + other.big.size - MIB)
    with pytest.raises(DiskSpace, match=f"needs at least {other.big.size} bytes"):
        cache.open(other.big, "other", never)
    filler.unlink()
    part.gate = None
    part.opened.set()
    warm(cache, other)
    reader.close()
    wait_until_idle(cache)
    assert names(cache) == sorted(f"{each.big.digest}.big" for each in (part, other))


def test_the_start_of_a_part_counts_and_stays(cache: ModelCache, disk: Path, part: MemoryPart) -> None:
    cache._directory.prepare()
    partial = cache._directory.partial(part.big.digest)
    partial.write_bytes(part.data[: 2 * MIB])
    filler = fill(disk, MIB // 2)
    with pytest.raises(DiskSpace, match=f"needs at least {part.big.size - 2 * MIB} bytes"):
        cache.open(part.big, "part", never)
    assert partial.stat().st_size == 2 * MIB
    filler.unlink()
    fill(disk, MIB + MIB // 2)
    warm(cache, part)
    assert part.sent == part.big.size - 2 * MIB


def test_a_disk_that_fills_during_a_download_costs_no_other_part(
    cache: ModelCache, disk: Path, part: MemoryPart
) -> None:
    kept = memory_part("kept", CONTENT[:MIB])
    warm(cache, kept)
    part.gate = MIB
    reader = cache.open(part.big, "part", part.fetch)
    poll(lambda: cache.status().downloads[0].bytes_done == MIB, SECONDS, "the first MiB has arrived")
    fill(disk, 0)
    part.gate = None
    part.opened.set()
    wait_until_idle(cache)
    reader.close()
    wait_until_idle(cache)
    assert names(cache) == [f"{kept.big.digest}.big"]


def test_a_file_system_that_knows_no_limit_has_room(tmp_path: Path, part: MemoryPart) -> None:
    with small_disk(tmp_path / "unlimited", 0) as unlimited:
        assert free_bytes(unlimited) == 0
        warm(ModelCache(unlimited / "cache", 0, 1), part)


def test_a_disk_on_which_no_part_fits_cannot_grow_the_cache(cache: ModelCache, disk: Path, part: MemoryPart) -> None:
    warm(cache, part)
    filler = fill(disk, leave=0)
    cache.require_writable()  # because the part that is there can be removed
    cache.upkeep.clear()
    filler.unlink()
    fill(disk, leave=MIB - 4096)
    with pytest.raises(DiskSpace, match=rf"{disk}/cache takes {free_bytes(disk)} bytes even without its parts"):
        cache.require_writable()
    filler.unlink()
    fill(disk, leave=MIB)
    cache.require_writable()


def test_an_upload_whose_last_bytes_do_not_fit_leaves_no_file(cache: ModelCache, disk: Path) -> None:
    with cache.upload(0) as file:
        fill(disk, leave=0)
        file.write(b"buffered until the file is closed")
    assert names(cache) == []
