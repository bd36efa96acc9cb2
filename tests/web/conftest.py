"""The loaders that the tests of the web layer share. They keep only their login and their log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sites import BareSite, FaultySite, Site, bare_site, faulty_site, real_site


@pytest.fixture(scope="session")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareSite]:
    """A loader without an API, without an engine and without a login."""
    with bare_site(tmp_path_factory.mktemp("lonely"), EXPECTED_IMAGES="") as running:
        yield running


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A loader that is logged in at a reference API."""
    with real_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="session")
def shared_faulty_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultySite]:
    """Use `faulty`."""
    with faulty_site(tmp_path_factory.mktemp("faulty")) as running:
        yield running


@pytest.fixture
def faulty(shared_faulty_site: FaultySite) -> Iterator[FaultySite]:
    """A loader that is logged in at an API whose faults the test controls; it is healthy at first."""
    shared_faulty_site.api.reset()
    yield shared_faulty_site
    shared_faulty_site.api.resume()
