"""Fixtures: one browser for all tests of the page, and tabs whose requests and errors are checked after each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser

from tests.browser.browsing import DEVICE_HOST, LoaderPage, chromium
from tests.support.sites import Site, real_site


class Open(Protocol):
    """The type of the fixture `open_page`."""

    def __call__(self, url: str, **context: Any) -> LoaderPage:
        """Open the page of the loader at `url` in a new browser context and return it."""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium. It closes after the last test of this package, not of the session, because it takes a lot of memory."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="package")
def _shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with real_site(tmp_path_factory.mktemp("site"), TRUSTED_HOSTS=f"127.0.0.1,{DEVICE_HOST}") as running:
        yield running


@pytest.fixture
def site(_shared_site: Site) -> Site:
    """A loader without an archive and an engine, and its API, which has recorded no request yet.

    The loader trusts two host names: 127.0.0.1 and `DEVICE_HOST`.
    """
    _shared_site.api.forget_requests()
    return _shared_site


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens pages, and checks after the test that each one sent requests only to its loader and logged no error."""
    with ExitStack() as running:
        pages = []

        def open_one(url: str, **context: Any) -> LoaderPage:
            made = browser.new_context(**context)
            running.callback(made.close)
            pages.append(LoaderPage(made, url))
            return pages[-1]

        yield open_one
        for page in pages:
            assert page.foreign_requests(page.url) == []
            assert page.complaints == []
