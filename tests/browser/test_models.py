"""What the page shows of the cache and of running downloads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.support.loads import OpenLoad
from tests.support.processes import poll
from tests.support.range_sites import RangeSite, range_site
from tests.support.stored_resources import MIB, StoredResource, store_resource

SIZE = 4 * MIB
HALF = 2 * MIB
MOVE_SECONDS = 20.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RangeSite]:
    """A loader that is logged in at an API that can stop in the middle of a response."""
    with range_site(tmp_path / "site", API_READ_TIMEOUT="30") as running:
        yield running


@pytest.fixture
def model(tmp_path: Path) -> StoredResource:
    """A model of `SIZE` bytes that no API serves yet."""
    directory = tmp_path / "stored"
    directory.mkdir()
    return store_resource(directory, "weights.onnx", SIZE)


def test_the_page_shows_a_running_download_and_then_the_cached_part(
    site: RangeSite, model: StoredResource, open_page: Open
) -> None:
    model.publish(site.api).stalls.append(HALF)
    page = open_page(site.url, viewport={"width": 320, "height": 720})
    page.wait_for_text("cache-held", "nothing")
    expect(page.at("downloads-part")).to_be_hidden()
    with OpenLoad(site.url, model.filename) as load:
        page.look_again()
        page.wait_for_text("downloads", model.name.path)
        page.wait_for_text("downloads", " of 4 MB")
        bar = page.at("downloads").get_by_role("progressbar", name=f"Download of {model.name.path}")
        poll(lambda: 0 < bar.evaluate("bar => bar.value / bar.max") < 1, MOVE_SECONDS, "the bar moves")
        page.screenshot("download-light-320")
        assert not page.scrolls_sideways()
        assert page.findings() == []
        site.api.resume()
        assert load.finish().sha256 == model.sha256
    page.wait_for_text("cache-held", "1 part, 4 MB")
    expect(page.at("downloads-part")).to_be_hidden()
