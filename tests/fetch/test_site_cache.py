"""Two devices and the cache of their site on one line: it carries one copy, and nobody gets a blob without a token."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from resource_api.accounts import Role
from tests.fetch.published import MIB, VERSION, Fetcher, objects, release, write_objects
from tests.fetch.test_resume import size_of
from tests.support.http_calls import EMAIL, PASSWORD, login
from tests.support.http_probe import http_status
from tests.support.narrow_line import NarrowLine
from tests.support.resource_api_server import ResourceApiServer
from tests.support.site_cache import site_cache
from tests.support.sites import bare_site

MAX_COPIES = 1.05
DEVICES = 2
# So slow that both devices ask for each blob while it comes.
RATE = 4 * MIB


@pytest.mark.long
def test_the_line_carries_one_copy(tmp_path: Path) -> None:
    archive = release(tmp_path / "1.enc", 1, 4 * MIB)
    published = objects(archive)
    with ExitStack() as running:
        (tmp_path / "api").mkdir()
        api = running.enter_context(ResourceApiServer(tmp_path / "api"))
        api.add_user(EMAIL, PASSWORD, Role.READER)
        write_objects(api.data_dir / "resources", published)
        line = running.enter_context(NarrowLine(api.url, rate=RATE))
        cache = running.enter_context(site_cache(tmp_path / "cache", line.url))
        fetchers = []
        for number in range(DEVICES):
            place = tmp_path / f"device {number}" / "images.enc"
            site = running.enter_context(bare_site(place.parent, cache, IMAGES_PATH=str(place), API_VERSION=VERSION))
            assert login(site.url).status == 200
            fetchers.append(Fetcher(site.url, place))
        before = line.sent
        for fetcher in fetchers:
            assert fetcher.start().status == 200
        for fetcher in fetchers:
            assert fetcher.wait()["state"] == "fetched"
            fetcher.require(archive)
        assert size_of(published) <= line.sent - before <= MAX_COPIES * size_of(published)
        blob = next(path for path in published if path.endswith(".blob"))
        assert http_status(cache, f"/resources/{blob}") == 401
        assert http_status(cache, f"/resources/images/{'0' * 64}.blob") == 401
        assert http_status(cache, "/permitted") == 404
