"""Fixtures: a device whose API misbehaves on demand, and release 1 there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fetch.published import VERSION, Fetcher, release
from tests.support.range_sites import RangeSite, range_site


@pytest.fixture
def flaky(tmp_path: Path) -> Iterator[RangeSite]:
    """A loader that is logged in at an API whose faults a test controls; nothing is published there."""
    device = tmp_path / "flaky"
    with range_site(device, API_VERSION=VERSION) as site:
        yield site


@pytest.fixture
def fetcher(flaky: RangeSite) -> Fetcher:
    """The fetch of the loader `flaky`."""
    return Fetcher(flaky.url, flaky.models.parent.parent / "images.enc")


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 1."""
    return release(tmp_path_factory.mktemp("first") / "1.enc", 1)


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 2, of which one layer of 1 MiB is another one than in release 1."""
    return release(tmp_path_factory.mktemp("second") / "2.enc", 2)
