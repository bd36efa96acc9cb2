"""The upkeep of the cache in process: what is removed and what must not be, and what goes on meanwhile."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from loader.errors import StorageError
from loader.model_cache.cache import ModelCache
from loader.model_cache.directory import CacheDirectory
from loader.model_cache.upkeep import Clearance, PartListing, Verification
from tests.support.memory_upstream import MemoryPart, memory_part
from tests.support.processes import poll

MIB = 1 << 20
SECONDS = 20
CONTENT = random.Random("content").randbytes(3 * MIB)  # noqa: S311  # a file's content, no secret


@pytest.fixture
def part() -> MemoryPart:
    """A resource of 3 MiB."""
    return memory_part("part", CONTENT)


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    """An empty one with a limit that nothing reaches."""
    return ModelCache(tmp_path / "cache", 1 << 40)


@pytest.fixture
def warm(cache: ModelCache, part: MemoryPart) -> Path:
    """The whole part's file in `cache`; nothing is in use."""
    assert part.load(cache) == CONTENT
    at_rest(cache)
    part.fetches = 0
    return CacheDirectory(cache._directory.path, 0).big(part.big.sha256)


def at_rest(cache: ModelCache) -> None:
    assert cache.wait_until_idle(SECONDS)


def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.fixture
def while_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Lets something happen when a part was opened and its digest is still to be taken."""

    def install(happening: Callable[[], object]) -> None:
        def file_digest(file: IO[bytes], name: str) -> Any:
            digest = hashlib.file_digest(file, name)  # type: ignore[arg-type]
            happening()
            return digest

        monkeypatch.setattr("loader.model_cache.upkeep.hashlib", SimpleNamespace(file_digest=file_digest))

    return install


def test_an_empty_cache_has_nothing_to_do(cache: ModelCache) -> None:
    assert cache.upkeep.listing() == []
    assert cache.upkeep.verify() == Verification(0, 0, [])
    assert cache.upkeep.clear() == Clearance(0, 0, 0)


def test_the_listing_tells_whole_partial_and_used_parts(cache: ModelCache, part: MemoryPart, warm: Path) -> None:
    growing = memory_part("growing", CONTENT)
    growing.gate = MIB
    opened = cache.open(growing.big, "growing", growing.fetch)
    poll(lambda: cache.status().downloads[0].bytes_done == MIB, SECONDS, "the begin is there")
    whole, partial = cache.upkeep.listing()
    assert whole == PartListing(part.big.sha256, part.big.size, True, False, warm.stat().st_mtime)
    assert (partial.sha256, partial.bytes, partial.whole, partial.in_use) == (growing.big.sha256, MIB, False, True)
    assert time.time() - partial.last_used < SECONDS
    growing.gate = None
    growing.opened.set()
    opened.close()
    at_rest(cache)


def test_sound_parts_stay(cache: ModelCache, part: MemoryPart, warm: Path) -> None:
    assert cache.upkeep.verify() == Verification(1, part.big.size, [])
    assert warm.exists()
    assert part.load(cache) == CONTENT
    assert part.fetches == 0


@pytest.mark.parametrize("offset", [0, MIB, -1])
def test_a_damaged_part_goes_and_is_fetched_anew(cache: ModelCache, part: MemoryPart, warm: Path, offset: int) -> None:
    damage(warm, offset % part.big.size)
    assert cache.upkeep.verify() == Verification(1, part.big.size, [part.big.sha256])
    assert list(warm.parent.iterdir()) == []
    assert part.load(cache) == CONTENT
    assert part.fetches == 1
    assert part.sent == 2 * part.big.size  # once for the fixture
    at_rest(cache)
    assert cache.upkeep.verify() == Verification(1, part.big.size, [])


def test_a_part_that_was_cut_short_goes(cache: ModelCache, part: MemoryPart, warm: Path) -> None:
    warm.write_bytes(warm.read_bytes()[:-1])
    assert cache.upkeep.verify().damaged == [part.big.sha256]
    assert not warm.exists()


def test_partial_parts_are_not_judged(cache: ModelCache, part: MemoryPart, warm: Path) -> None:
    partial = warm.with_suffix(".partial")
    warm.rename(partial)
    damage(partial, 5)
    assert cache.upkeep.verify() == Verification(0, 0, [])
    assert partial.exists()
    assert part.load(cache) == CONTENT


def test_who_reads_a_damaged_part_is_not_disturbed(cache: ModelCache, part: MemoryPart, warm: Path) -> None:
    damage(warm, 2 * MIB)
    plaintext = part.plaintext(cache)
    first = next(plaintext)
    assert cache.upkeep.verify().damaged == [part.big.sha256]
    # One who comes while the first still reads has the same file, and both mend what they meet.
    assert part.load(cache) == CONTENT
    assert first + b"".join(plaintext) == CONTENT
    plaintext.close()
    at_rest(cache)
    assert list(warm.parent.iterdir()) == []
    assert part.load(cache) == CONTENT
    at_rest(cache)
    assert cache.upkeep.verify() == Verification(1, part.big.size, [])


def test_loads_go_on_while_a_part_is_read(
    cache: ModelCache, part: MemoryPart, warm: Path, while_reading: Callable[[Callable[[], object]], None]
) -> None:
    """The lock is free meanwhile, else this would wait for itself."""
    loaded: list[bytes] = []
    while_reading(lambda: loaded.append(part.load(cache)))
    assert cache.upkeep.verify() == Verification(1, part.big.size, [])
    assert loaded == [CONTENT]
    assert warm.exists()


def test_what_has_taken_the_name_meanwhile_stays(
    cache: ModelCache, part: MemoryPart, warm: Path, while_reading: Callable[[Callable[[], object]], None]
) -> None:
    good = warm.read_bytes()
    damage(warm, 0)

    def replace() -> None:
        warm.unlink()
        warm.write_bytes(good)

    while_reading(replace)
    with warm.open("rb"):  # else the new file could get the inode of the old one
        assert cache.upkeep.verify() == Verification(1, part.big.size, [])
    assert warm.read_bytes() == good


def test_what_is_being_mended_stays(
    cache: ModelCache, part: MemoryPart, warm: Path, while_reading: Callable[[Callable[[], object]], None]
) -> None:
    damage(warm, 0)
    while_reading(lambda: warm.rename(warm.with_suffix(".partial")))
    assert cache.upkeep.verify() == Verification(1, part.big.size, [])
    assert warm.with_suffix(".partial").exists()


def test_what_is_removed_meanwhile_is_not_missed(
    cache: ModelCache, warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = cache._directory.files()
    warm.unlink()
    monkeypatch.setattr(cache._directory, "files", lambda: files)
    assert cache.upkeep.verify() == Verification(0, 0, [])


def test_to_clear_removes_all_that_is_not_in_use(cache: ModelCache, part: MemoryPart, warm: Path) -> None:
    other = memory_part("other", CONTENT[:MIB])
    assert other.load(cache) == CONTENT[:MIB]
    at_rest(cache)
    (warm.parent / f"{'0' * 64}.partial").write_bytes(bytes(1000))
    (warm.parent / f"{'0' * 64}.etag").write_text('"1"')
    plaintext = part.plaintext(cache)
    assert cache.upkeep.clear() == Clearance(2, other.big.size + 1000, 1)
    assert list(warm.parent.iterdir()) == [warm]
    assert b"".join(plaintext) == CONTENT
    plaintext.close()
    at_rest(cache)
    assert cache.upkeep.clear() == Clearance(1, part.big.size, 0)
    assert list(warm.parent.iterdir()) == []


@pytest.mark.parametrize("work", ["listing", "verify", "clear"])
def test_a_place_that_is_no_directory_is_a_storage_error(tmp_path: Path, work: str) -> None:
    (tmp_path / "file").touch()
    cache = ModelCache(tmp_path / "file", 0)
    with pytest.raises(StorageError, match="cannot be used"):
        getattr(cache.upkeep, work)()


@pytest.mark.parametrize("work", ["verify", "clear"])
def test_a_part_that_cannot_be_used_is_a_storage_error(cache: ModelCache, warm: Path, work: str) -> None:
    warm.unlink()
    warm.mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        getattr(cache.upkeep, work)()
