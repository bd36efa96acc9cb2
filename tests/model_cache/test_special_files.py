"""Pipes, devices, links and other things that are no files, under the names of the cache's files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from loader.errors import StorageError
from loader.model_cache.cache import ModelCache
from tests.model_cache.memory_upstream import MemoryPart, memory_part
from tests.support.special_files import SECRET, SPECIAL_FILES, secret_beside

pytestmark = pytest.mark.timeout(30)  # a pipe that is opened in the usual way waits for its other end, forever

MIB = 1 << 20
CONTENT = os.urandom(2 * MIB)
KINDS = ("big", "partial")
SECONDS = 20.0


@pytest.fixture
def part() -> MemoryPart:
    return memory_part("part", CONTENT)


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    (tmp_path / "cache").mkdir()
    return ModelCache(tmp_path / "cache", 0, 1)


def name(tmp_path: Path, part: MemoryPart, kind: str) -> Path:
    return tmp_path / "cache" / f"{part.big.digest}.{kind}"


def assert_loads(cache: ModelCache, part: MemoryPart) -> None:
    """Require that the model is loaded, and that the cache then holds it whole."""
    assert part.load(cache) == CONTENT
    assert cache.wait_until_idle(SECONDS)
    assert [entry.whole for entry in cache.upkeep.listing()] == [True]
    part.down = True
    assert part.load(cache) == CONTENT
    assert cache.upkeep.verify().damaged == []


@pytest.mark.parametrize("file", KINDS)
@pytest.mark.parametrize("kind", SPECIAL_FILES)
def test_a_model_is_loaded_whatever_stands_under_the_name_of_a_file(
    cache: ModelCache, part: MemoryPart, tmp_path: Path, kind: str, file: str
) -> None:
    path = name(tmp_path, part, file)
    SPECIAL_FILES[kind](path)
    assert_loads(cache, part)
    if kind == "link to a secret":
        assert secret_beside(path).read_bytes() == SECRET


@pytest.mark.parametrize("file", KINDS)
def test_a_directory_under_the_name_of_a_file_is_an_error_at_most(
    cache: ModelCache, part: MemoryPart, tmp_path: Path, file: str
) -> None:
    """The loader removes no directory, because it has made none."""
    (name(tmp_path, part, file) / "below").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"Is a directory|not a regular file"):
        part.plaintext(cache)
    assert cache.wait_until_idle(SECONDS)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def second_name(path: Path) -> None:
    secret_beside(path).write_bytes(SECRET)
    path.hardlink_to(secret_beside(path))


@pytest.mark.parametrize("file", KINDS)
@pytest.mark.parametrize("make", [sparse, second_name])
def test_a_regular_file_that_is_not_the_cache_s_own_is_not_used(
    cache: ModelCache, part: MemoryPart, tmp_path: Path, file: str, make: Callable[[Path], None]
) -> None:
    path = name(tmp_path, part, file)
    make(path)
    assert_loads(cache, part)
    if make is second_name:
        assert secret_beside(path).read_bytes() == SECRET


@pytest.mark.parametrize("kind", SPECIAL_FILES)
def test_what_is_no_file_is_no_entry_and_ends_no_command(
    cache: ModelCache, part: MemoryPart, tmp_path: Path, kind: str
) -> None:
    SPECIAL_FILES[kind](name(tmp_path, part, "big"))
    assert cache.upkeep.listing() == []
    assert cache.upkeep.verify().checked == 0
    assert cache.upkeep.clear().removed == 0
    assert cache.status().entries == 0


def test_a_use_of_a_link_does_not_touch_what_it_leads_to(cache: ModelCache, part: MemoryPart, tmp_path: Path) -> None:
    path = name(tmp_path, part, "big")
    SPECIAL_FILES["link to a secret"](path)
    os.utime(secret_beside(path), (1, 1))
    assert part.load(cache) == CONTENT
    assert secret_beside(path).stat().st_mtime == 1
