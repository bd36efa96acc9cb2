"""A fetch of 256 MiB over a line that is cut every 5 MiB, five kills and a restart of the API: bytes, and memory."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from resource_api.accounts import Role
from tests.fetch.published import MIB, VERSION, Fetcher, objects, release, write_objects
from tests.fetch.test_resume import kill_worker, size_of, wait_for
from tests.support.http_calls import EMAIL, PASSWORD, login
from tests.support.narrow_line import NarrowLine
from tests.support.procfs import peak_rss_bytes, reset_peak_rss, rss_bytes
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sites import bare_site

MAX_EXCESS = 1.01
MAX_GROWTH = 32 * MIB
KILLS = 5
# The loader keeps up at this rate on four connections, on a busy machine too, so a cut or a kill loses few bytes.
RATE = 3 * MIB


@pytest.mark.long
def test_bytes_and_memory_of_a_large_fetch(tmp_path: Path) -> None:
    archive = release(tmp_path / "large.enc", 1, 32 * MIB)
    published = objects(archive)
    size = size_of(published)
    for name in ("api", "restarted", "device"):
        (tmp_path / name).mkdir()
    first = ResourceApiServer(tmp_path / "api")
    first.add_user(EMAIL, PASSWORD, Role.READER)
    write_objects(first.data_dir / "resources", published)
    del published
    place = tmp_path / "device" / "images.enc"
    line = NarrowLine(first.url, rate=RATE, cut_every=5 * MIB)
    with first, line, bare_site(tmp_path / "device", line.url, IMAGES_PATH=str(place), API_VERSION=VERSION) as site:
        fetcher = Fetcher(site.url, place)
        assert login(site.url).status == 200
        for kill in range(1, KILLS + 1):
            assert fetcher.start().status == 200
            wait_for(fetcher, kill * size / (KILLS + 2))
            kill_worker(site)
        worker = site.loader.worker_pid
        reset_peak_rss(worker)
        before = rss_bytes(worker)
        assert fetcher.start().status == 200
        wait_for(fetcher, (KILLS + 1) * size / (KILLS + 2))
        assert first.stop() == 0
        with ResourceApiServer(tmp_path / "restarted", data_dir=first.data_dir, port=urlsplit(first.url).port):
            assert fetcher.wait()["state"] == "fetched"
        assert peak_rss_bytes(worker) - before <= MAX_GROWTH
        assert size <= line.sent <= MAX_EXCESS * size
    fetcher.require(archive)
