"""POST /upload/{filename} with the reference API, which is killed and started again meanwhile."""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resource_api.accounts import Role
from tests.support.http_calls import EMAIL, PASSWORD, load, login, upload
from tests.support.processes import free_port, poll
from tests.support.procfs import children
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sealed_objects import debris
from tests.support.sites import Site, bare_site

MIB = 1 << 20
# Large enough that the API is killed long before the end.
CONTENT = bytes(range(251)) * (80 * MIB // 251)
SECONDS = 30


def parts_of(api: ResourceApiServer) -> Counter[str]:
    """Return how often each part was sent."""
    return Counter(seen.path for seen in api.requests("PUT") if "/parts/" in seen.path)


@pytest.mark.long
def test_an_upload_goes_on_after_the_api_was_killed(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    port = free_port()
    with ResourceApiServer(tmp_path / "api", port=port) as api:
        api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
        with bare_site(tmp_path, api.url) as bare, ThreadPoolExecutor(1) as pool:
            site = Site(bare.loader, bare.models, api)
            assert login(site.url).status == 200
            uploading = pool.submit(upload, site.url, "m", "x", CONTENT)
            poll(lambda: parts_of(api), SECONDS, "the first part")
            # The worker would end by itself only after a second, and take all parts until then.
            for pid in (api.process.pid, *children(api.process.pid)):
                os.kill(pid, signal.SIGKILL)
            api.process.wait(SECONDS)
            (tmp_path / "again").mkdir()
            with ResourceApiServer(tmp_path / "again", data_dir=api.data_dir, port=port) as again:
                assert uploading.result(SECONDS).status == 200
                # The loader starts no other upload, and sends no part twice to the same server.
                assert again.requests("POST", "/uploads") == []
                assert set(parts_of(again).values()) == {1}
                assert debris(site.models) == []
                site.empty_cache()
                assert load(site.url, "m", "x").body == CONTENT
