"""A disk that is read-only: what is whole there is served, and the loader says that its cache cannot grow."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.errors import StorageError
from loader.model_cache.cache import ModelCache
from tests.model_cache.memory_upstream import CONTENT, MemoryPart, memory_part, wait_until_idle
from tests.support.http_calls import call, load
from tests.support.loads import OpenLoad, load_hashed
from tests.support.range_sites import range_site
from tests.support.small_disk import make_read_only, make_writable, read_only_view, small_disk
from tests.support.stored_resources import FOLDER, MIB, StoredResource, store_resource


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 40 * MIB) as mount_point:
        yield mount_point


@pytest.fixture
def filled(disk: Path, part: MemoryPart) -> Path:
    """Load `part` into a cache on the disk, and return the path of its file."""
    cache = ModelCache(disk / "cache", 0, 1)
    assert part.load(cache) == CONTENT
    wait_until_idle(cache)
    part.down = True
    return disk / "cache" / f"{part.big.digest}.big"


def assert_served(directory: Path, part: MemoryPart, max_bytes: int = 0) -> None:
    cache = ModelCache(directory, max_bytes, 1)
    cache.remove_leftovers()
    for _ in range(2):
        assert part.load(cache) == CONTENT
        wait_until_idle(cache)


def test_a_disk_that_turns_read_only_in_a_running_loader(disk: Path, tmp_path: Path, small: StoredResource) -> None:
    other = store_resource(tmp_path, "other", 2 * MIB)
    with range_site(tmp_path / "site", MODEL_CACHE_DIR=str(disk / "models")) as site:
        for resource in (small, other):
            resource.publish(site.api)
        assert load_hashed(site.url, small.filename).sha256 == small.sha256
        site.wait_until_idle()
        with OpenLoad(site.url, small.filename, receive_buffer=1 << 14) as opened:
            assert opened.read(1) == 1
            make_read_only(disk)  # refused while a file is open for writing
            assert load_hashed(site.url, small.filename).sha256 == small.sha256
            assert opened.finish().sha256 == small.sha256
        problem = load(site.url, FOLDER, other.filename).problem(500, "STORAGE_ERROR")
        assert str(site.models) in problem["detail"]
        ready = json.loads(call(site.url, "GET", "/ready").body)
        assert ready["reasons"] == ["STORAGE_ERROR", "ENGINE_UNAVAILABLE"]
        assert f"{site.models} cannot be written to. The cache cannot grow" in ready["detail"]
        make_writable(disk)
        assert load_hashed(site.url, other.filename).sha256 == other.sha256
        assert json.loads(call(site.url, "GET", "/ready").body)["reasons"] == ["ENGINE_UNAVAILABLE"]


def test_a_loader_that_starts_on_a_read_only_disk_warns_of_nothing_that_does_not_exist(
    disk: Path, tmp_path: Path, small: StoredResource
) -> None:
    models = disk / "models"
    with range_site(tmp_path / "first", MODEL_CACHE_DIR=str(models)) as site:
        small.publish(site.api)
        assert load_hashed(site.url, small.filename).sha256 == small.sha256
        site.wait_until_idle()
    make_read_only(disk)
    paths = {"MODEL_CACHE_DIR": str(models), "IMAGES_PATH": str(disk / "images.enc")}
    with range_site(tmp_path / "second", **paths) as site:
        small.publish(site.api)
        assert load_hashed(site.url, small.filename).sha256 == small.sha256
        assert [line["message"] for line in site.loader.log_lines() if line["level"] == "WARNING"] == []


def test_a_read_only_volume_is_served(tmp_path: Path, filled: Path, part: MemoryPart) -> None:
    with read_only_view(filled.parent, tmp_path / "volume") as volume:
        assert_served(volume, part)


def test_a_cache_above_its_limit_is_served(disk: Path, filled: Path, part: MemoryPart) -> None:
    make_read_only(disk)
    assert_served(filled.parent, part, max_bytes=1)


def test_a_part_that_is_whole_without_its_final_name_is_served(disk: Path, filled: Path, part: MemoryPart) -> None:
    """A part that was being repaired, or whose download had just ended, when the disk died."""
    filled.rename(filled.with_suffix(".partial"))
    make_read_only(disk)
    assert_served(filled.parent, part)
    assert_served(filled.parent, part, max_bytes=1)


def test_a_part_is_served_beside_one_that_cannot_be_continued(disk: Path, filled: Path, part: MemoryPart) -> None:
    other = memory_part("other", CONTENT[: 2 * MIB])
    filled.with_name(f"{other.big.digest}.partial").write_bytes(other.data[:MIB])
    make_read_only(disk)
    cache = ModelCache(filled.parent, 0, 1)
    with pytest.raises(StorageError, match="Read-only file system"):
        cache.open(other.big, "other", other.fetch)
    assert_served(filled.parent, part)


def test_a_part_of_the_wrong_size_is_refused_and_not_served(disk: Path, filled: Path, part: MemoryPart) -> None:
    with filled.open("r+b") as file:
        file.truncate(part.big.size - 1)
    make_read_only(disk)
    cache = ModelCache(filled.parent, 0, 1)
    with pytest.raises(StorageError, match="Read-only file system") as refused:
        cache.open(part.big, "part", part.fetch)
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno == errno.EROFS
