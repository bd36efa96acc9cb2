"""Resources of the sizes that these tests need, sealed once, and loaders at an upstream that misbehaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.range_sites import RangeSite, range_site
from tests.support.stored_resources import MIB, StoredResource, store_resource


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for sealed resources."""
    return tmp_path_factory.mktemp("stored")


@pytest.fixture(scope="session")
def small(stored: Path) -> StoredResource:
    """4 MiB and a bit."""
    return store_resource(stored, "small", 4 * MIB + 12_345)


@pytest.fixture(scope="session")
def medium(stored: Path) -> StoredResource:
    """64 MiB: 1.02 of it leaves room for one segment that is fetched twice."""
    return store_resource(stored, "medium", 64 * MIB)


@pytest.fixture(scope="session")
def large(stored: Path) -> StoredResource:
    """256 MiB."""
    return store_resource(stored, "large", 256 * MIB)


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeSite]:
    """Use `site`."""
    with range_site(tmp_path_factory.mktemp("range") / "site") as running:
        yield running


@pytest.fixture
def site(shared_site: RangeSite) -> RangeSite:
    """A loader at a healthy upstream without objects, whose cache is empty."""
    shared_site.reset()
    return shared_site
