"""Fixtures: sealed resources, a loader whose upstream can misbehave, and a cache in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.model_cache.cache import ModelCache
from tests.model_cache.memory_upstream import CONTENT, MemoryPart, memory_part
from tests.support.range_sites import RangeSite, range_site
from tests.support.stored_resources import MIB, StoredResource, store_resource


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory for sealed resources."""
    return tmp_path_factory.mktemp("stored")


@pytest.fixture(scope="session")
def small(stored: Path) -> StoredResource:
    """Return a resource of slightly more than 4 MiB."""
    return store_resource(stored, "small", 4 * MIB + 12_345)


@pytest.fixture(scope="session")
def medium(stored: Path) -> StoredResource:
    """Return a resource of 64 MiB. Two per cent of it are more than one segment, which may thus be fetched twice."""
    return store_resource(stored, "medium", 64 * MIB)


@pytest.fixture(scope="session")
def large(stored: Path) -> StoredResource:
    """Return a resource of 96 MiB."""
    return store_resource(stored, "large", 96 * MIB)


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeSite]:
    """Start the loader that all tests of a module share. A test uses it through the fixture `site`."""
    with range_site(tmp_path_factory.mktemp("range") / "site") as running:
        yield running


@pytest.fixture
def site(shared_site: RangeSite) -> RangeSite:
    """Return a loader with an empty cache and a healthy upstream that has no objects."""
    shared_site.reset()
    return shared_site


@pytest.fixture
def part() -> MemoryPart:
    """Return a resource of 3 MiB, whose upstream is this process."""
    return memory_part("part", CONTENT)


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    """Return an empty cache without a size limit."""
    return ModelCache(tmp_path / "cache", 0, 1)
