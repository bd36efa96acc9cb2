"""A disk that has lost blocks under the cache (EIO): what is lost is fetched again, and no more if it can be stored."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loader.crypto.segments import ciphertext_size
from loader.model_cache.cache import ModelCache
from tests.model_cache.memory_upstream import CONTENT, MIB, MemoryPart, memory_part, wait_until_idle
from tests.support.failing_disk import BLOCK_SIZE, FailingDisk, failing_disk, forget_pages
from tests.support.http_calls import call
from tests.support.loads import load_hashed
from tests.support.range_sites import range_site
from tests.support.small_disk import make_read_only, make_writable
from tests.support.stored_resources import store_resource

DISK_SIZE = 64 * MIB
READERS = 8
# The ciphertext of so many bytes ends with a whole block, so that each of its blocks can be overwritten.
WHOLE_BLOCKS = next(size for size in range(3 * MIB - BLOCK_SIZE, 3 * MIB) if ciphertext_size(size) % BLOCK_SIZE == 0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    with failing_disk(tmp_path, DISK_SIZE) as mounted:
        yield mounted


@pytest.fixture
def cache(disk: FailingDisk) -> ModelCache:
    return ModelCache(disk.path / "cache", 0, 1)


def load(cache: ModelCache, part: MemoryPart) -> int:
    """Load `part` without an error, and return how many bytes of it were fetched."""
    before = part.sent
    assert part.load(cache) == part.content
    wait_until_idle(cache)
    return part.sent - before


def warm(cache: ModelCache, content: bytes = CONTENT) -> tuple[MemoryPart, Path]:
    """Load a part with `content`, and return it and its file."""
    part = memory_part("part", content)
    assert load(cache, part) == part.big.size
    return part, cache._directory.big(part.big.digest)


@pytest.mark.parametrize("offset", [0, 1, MIB, MIB + 5000, 2 * MIB + 123_456])
def test_lost_blocks_are_fetched_anew_and_stored(disk: FailingDisk, cache: ModelCache, offset: int) -> None:
    part, path = warm(cache, CONTENT[:WHOLE_BLOCKS])
    disk.lose(path, offset)
    fetched = load(cache, part)
    assert part.big.size - offset <= fetched <= part.big.size - offset + BLOCK_SIZE
    forget_pages(path)
    assert load(cache, part) == 0
    assert cache.upkeep.verify().damaged == []


def test_a_block_that_cannot_be_stored_costs_a_new_download_of_the_part(disk: FailingDisk, cache: ModelCache) -> None:
    """The last block is not a whole one, so that the file system must read what it would write to."""
    part, path = warm(cache)
    disk.lose(path, part.big.size - 1)
    assert load(cache, part) <= BLOCK_SIZE
    assert not path.exists()
    assert load(cache, part) == part.big.size
    assert load(cache, part) == 0


def test_many_readers_of_lost_blocks(disk: FailingDisk, cache: ModelCache) -> None:
    part, path = warm(cache, CONTENT[:WHOLE_BLOCKS])
    disk.lose(path, 2 * MIB)
    before = part.fetches
    with ThreadPoolExecutor(READERS) as readers:
        assert set(readers.map(lambda _: part.load(cache), range(READERS))) == {part.content}
    wait_until_idle(cache)
    assert part.fetches == before + 1
    assert load(cache, part) == 0


def test_a_disk_that_is_read_only_and_has_lost_blocks(disk: FailingDisk, cache: ModelCache) -> None:
    part, path = warm(cache)
    disk.lose(path, 2 * MIB)
    make_read_only(disk.path)
    lost = part.big.size - 2 * MIB
    assert [load(cache, part), load(cache, part)] == [lost, lost]
    make_writable(disk.path)
    load(cache, part)
    load(cache, part)
    assert load(cache, part) == 0


def test_a_read_only_disk_with_a_flipped_bit(disk: FailingDisk, cache: ModelCache) -> None:
    part, path = warm(cache)
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(bytes(1))
    make_read_only(disk.path)
    assert load(cache, part) == MIB
    assert path.exists()


def test_blocks_that_come_back_as_zeros_are_repaired(disk: FailingDisk, cache: ModelCache) -> None:
    part, path = warm(cache)
    disk.lose(path, 2 * MIB)
    disk.regain(DISK_SIZE)
    assert load(cache, part) <= 2 * MIB
    assert load(cache, part) == 0


@pytest.mark.parametrize("size", [2 * MIB, None], ids=["half", "whole"])
def test_a_partial_part_goes_on_before_its_first_lost_block(
    disk: FailingDisk, cache: ModelCache, size: int | None
) -> None:
    part, path = warm(cache)
    partial = path.rename(path.with_suffix(".partial"))
    os.truncate(partial, part.big.size if size is None else size)
    disk.lose(partial, MIB + 1)
    fetched = load(cache, part)
    # The reader may fetch what is lost before the download has come as far.
    assert part.big.size - MIB <= fetched <= 2 * (part.big.size - MIB)
    assert load(cache, part) == 0
    assert cache.upkeep.verify().damaged == []


def test_verification_takes_lost_blocks_for_damage_and_goes_on(disk: FailingDisk, cache: ModelCache) -> None:
    other = memory_part("other", CONTENT[: 2 * MIB])
    load(cache, other)
    part, path = warm(cache)
    disk.lose(path, MIB)
    os.utime(path, (0, 0))  # it is read first
    done = cache.upkeep.verify()
    assert (done.checked, done.damaged) == (2, [part.big.digest])
    assert not path.exists()
    assert load(cache, part) == part.big.size
    assert load(cache, other) == 0


def test_a_part_that_the_disk_did_not_take_gets_no_final_name(
    cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake for a disk that fails while it is written to: it says so once, and what is in memory still looks right."""
    failures = [OSError(errno.EIO, os.strerror(errno.EIO))]
    synced = os.fsync

    def fail_once(descriptor: int) -> None:
        if failures and "partial" in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            raise failures.pop()
        synced(descriptor)

    monkeypatch.setattr("loader.model_cache.part_file.os.fsync", fail_once)
    part = memory_part("part", CONTENT)
    assert load(cache, part) == part.big.size
    assert failures == []
    assert load(cache, part) == part.big.size
    assert load(cache, part) == 0


def test_a_running_loader_heals_and_verifies(disk: FailingDisk, tmp_path: Path) -> None:
    model = store_resource(tmp_path, "model", 5 * MIB)
    with range_site(tmp_path / "site", MODEL_CACHE_DIR=str(disk.path / "models")) as site:
        model.publish(site.api)
        path = site.models / f"{model.big.digest}.big"
        assert load_hashed(site.url, model.filename).sha256 == model.sha256
        site.wait_until_idle()
        disk.lose(path, 3 * MIB)
        assert load_hashed(site.url, model.filename).sha256 == model.sha256
        site.wait_until_idle()
        assert load_hashed(site.url, model.filename).sha256 == model.sha256
        site.wait_until_idle()
        disk.lose(path, 2 * MIB)
        done = call(site.url, "POST", "/cache/verify").json()
        assert (done["checked"], done["damaged"]) == (1, [model.big.digest])
        assert load_hashed(site.url, model.filename).sha256 == model.sha256
