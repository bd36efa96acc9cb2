"""The upkeep of the cache in this process: which files it removes, which it keeps, and what may happen meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

import pytest

from loader.errors import StorageError
from loader.model_cache import upkeep
from loader.model_cache.cache import ModelCache
from loader.model_cache.directory import CacheDirectory
from loader.model_cache.upkeep import Clearance, PartListing, Verification
from tests.model_cache.memory_upstream import CONTENT, MIB, SECONDS, MemoryPart, memory_part, wait_until_idle
from tests.support.flips import flip_in_file
from tests.support.processes import poll


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    """Return an empty cache whose limit is too large to be reached."""
    return ModelCache(tmp_path / "cache", 1 << 40, 1)


@pytest.fixture
def warm(cache: ModelCache, part: MemoryPart) -> Path:
    """Load the part into `cache`, and return its file, which is not in use."""
    assert part.load(cache) == CONTENT
    wait_until_idle(cache)
    part.fetches = 0
    return CacheDirectory(cache._directory.path, 0).big(part.big.digest)


@pytest.fixture
def while_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return a function that sets what happens while the upkeep reads a part, before it uses the digest."""

    read = upkeep._digest_of

    def install(action: Callable[[], object]) -> None:
        def digest_of(file: BufferedReader) -> str:
            digest = read(file)
            action()
            return digest

        monkeypatch.setattr(upkeep, "_digest_of", digest_of)

    return install


def test_an_empty_cache_has_nothing_to_do(cache: ModelCache) -> None:
    assert cache.upkeep.listing() == []
    assert cache.upkeep.verify() == Verification(0, 0, [])
    assert cache.upkeep.clear() == Clearance(0, 0, 0)


def test_the_listing_shows_whole_and_partial_parts_and_whether_they_are_in_use(
    cache: ModelCache, part: MemoryPart, warm: Path
) -> None:
    growing = memory_part("growing", CONTENT)
    growing.gate = MIB
    opened = cache.open(growing.big, "growing", growing.fetch)
    poll(lambda: cache.status().downloads[0].bytes_done == MIB, SECONDS, "the first MiB has arrived")
    whole, partial = cache.upkeep.listing()
    assert whole == PartListing(part.big.digest, part.name.path, part.big.size, True, False, warm.stat().st_mtime)
    assert (partial.digest, partial.name, partial.bytes) == (growing.big.digest, "growing", MIB)
    assert (partial.whole, partial.in_use) == (False, True)
    assert time.time() - partial.last_used < SECONDS
    growing.gate = None
    growing.opened.set()
    opened.close()
    wait_until_idle(cache)


def test_undamaged_parts_are_kept(cache: ModelCache, part: MemoryPart, warm: Path) -> None:
    assert cache.upkeep.verify() == Verification(1, part.big.size, [])
    assert warm.exists()
    assert part.load(cache) == CONTENT
    assert part.fetches == 0


@pytest.mark.parametrize("offset", [0, MIB, -1])
def test_a_damaged_part_is_removed_and_fetched_again(
    cache: ModelCache, part: MemoryPart, warm: Path, offset: int
) -> None:
    flip_in_file(warm, offset % part.big.size)
    assert cache.upkeep.verify() == Verification(1, part.big.size, [part.big.digest])
    assert list(warm.parent.iterdir()) == []
    assert part.load(cache) == CONTENT
    assert part.fetches == 1
    assert part.sent == 2 * part.big.size  # The fixture has fetched it once.
    wait_until_idle(cache)
    assert cache.upkeep.verify() == Verification(1, part.big.size, [])


def test_a_truncated_part_is_removed(cache: ModelCache, part: MemoryPart, warm: Path) -> None:
    warm.write_bytes(warm.read_bytes()[:-1])
    assert cache.upkeep.verify().damaged == [part.big.digest]
    assert not warm.exists()


def test_partial_parts_are_not_verified(cache: ModelCache, part: MemoryPart, warm: Path) -> None:
    partial = warm.with_suffix(".partial")
    warm.rename(partial)
    flip_in_file(partial, 5)
    assert cache.upkeep.verify() == Verification(0, 0, [])
    assert partial.exists()
    assert part.load(cache) == CONTENT


def test_verification_does_not_disturb_the_reader_of_a_damaged_part(
    cache: ModelCache, part: MemoryPart, warm: Path
) -> None:
    flip_in_file(warm, 2 * MIB)
    plaintext = part.plaintext(cache)
    first = next(plaintext)
    assert cache.upkeep.verify().damaged == [part.big.digest]
    # A second reader shares the file of the first one, and both repair the damage that they find.
    assert part.load(cache) == CONTENT
    assert first + b"".join(plaintext) == CONTENT
    plaintext.close()
    wait_until_idle(cache)
    assert list(warm.parent.iterdir()) == []
    assert part.load(cache) == CONTENT
    wait_until_idle(cache)
    assert cache.upkeep.verify() == Verification(1, part.big.size, [])


def test_loads_continue_during_a_verification(
    cache: ModelCache, part: MemoryPart, warm: Path, while_reading: Callable[[Callable[[], object]], None]
) -> None:
    """The upkeep must not hold the lock while it reads, because this load would wait for it forever."""
    loaded: list[bytes] = []
    while_reading(lambda: loaded.append(part.load(cache)))
    assert cache.upkeep.verify() == Verification(1, part.big.size, [])
    assert loaded == [CONTENT]
    assert warm.exists()


def test_a_file_that_replaced_a_damaged_one_during_the_verification_is_kept(
    cache: ModelCache, part: MemoryPart, warm: Path, while_reading: Callable[[Callable[[], object]], None]
) -> None:
    good = warm.read_bytes()
    flip_in_file(warm, 0)

    def replace() -> None:
        warm.unlink()
        warm.write_bytes(good)

    while_reading(replace)
    with warm.open("rb"):  # The open file keeps its inode, so the new file cannot get it.
        assert cache.upkeep.verify() == Verification(1, part.big.size, [])
    assert warm.read_bytes() == good


def test_a_part_that_is_being_repaired_is_kept(
    cache: ModelCache, part: MemoryPart, warm: Path, while_reading: Callable[[Callable[[], object]], None]
) -> None:
    flip_in_file(warm, 0)
    while_reading(lambda: warm.rename(warm.with_suffix(".partial")))
    assert cache.upkeep.verify() == Verification(1, part.big.size, [])
    assert warm.with_suffix(".partial").exists()


def test_verification_ignores_a_part_that_was_removed_meanwhile(
    cache: ModelCache, warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = cache._directory.files()
    warm.unlink()
    monkeypatch.setattr(cache._directory, "files", lambda: files)
    assert cache.upkeep.verify() == Verification(0, 0, [])


def test_clear_removes_all_parts_that_are_not_in_use(cache: ModelCache, part: MemoryPart, warm: Path) -> None:
    other = memory_part("other", CONTENT[:MIB])
    assert other.load(cache) == CONTENT[:MIB]
    wait_until_idle(cache)
    (warm.parent / f"{'0' * 64}.partial").write_bytes(bytes(1000))
    plaintext = part.plaintext(cache)
    assert cache.upkeep.clear() == Clearance(2, other.big.size + 1000, 1)
    assert list(warm.parent.iterdir()) == [warm]
    assert b"".join(plaintext) == CONTENT
    plaintext.close()
    wait_until_idle(cache)
    assert cache.upkeep.clear() == Clearance(1, part.big.size, 0)
    assert list(warm.parent.iterdir()) == []


@pytest.mark.parametrize("work", ["listing", "verify", "clear"])
def test_a_path_that_is_not_a_directory_raises_storage_error(tmp_path: Path, work: str) -> None:
    (tmp_path / "file").touch()
    cache = ModelCache(tmp_path / "file", 0, 1)
    with pytest.raises(StorageError, match="cannot be used"):
        getattr(cache.upkeep, work)()


@pytest.mark.parametrize("work", ["verify", "clear"])
def test_a_part_that_cannot_be_removed_raises_storage_error(cache: ModelCache, warm: Path, work: str) -> None:
    warm.write_bytes(b"damaged")
    warm.with_suffix(".partial").mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        getattr(cache.upkeep, work)()
