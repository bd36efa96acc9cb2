"""A loader goes on when one of two processes of the resource API is killed over its transfer, behind nginx.

The objects are in a directory, or in a real store.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.api_site import DEVICE, Site, api_site
from tests.fetch.published import VERSION, Fetcher, objects, release, write_objects
from tests.resource_api.conftest import Api
from tests.support.http_calls import call, load, login, upload
from tests.support.loader_server import LoaderServer
from tests.support.processes import poll
from tests.support.procfs import open_descriptors
from tests.support.swift_store import BIG, SwiftStore

MIB = 1 << 20
SIZE = 24 * MIB
SECONDS = 60.0
# A store that starts again, and the wait of the loader for it.
RESTART_SECONDS = 180.0
# nginx sends so slowly that a transfer lasts for seconds.
SLOW = {"send_timeout 60s;": "send_timeout 60s; limit_rate 8m;"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    with api_site(tmp_path / "site", SLOW) as running:
        yield running


@contextmanager
def logged_in(site: Site, directory: Path) -> Iterator[LoaderServer]:
    """Start a loader that is logged in, with an empty cache."""
    directory.mkdir()
    env = {
        "RESOURCE_API_URL": f"https://localhost:{site.port}",
        "RESOURCE_API_CA_BUNDLE": str(site.certificate),
        "MODEL_CACHE_DIR": str(directory / "models"),
        "IMAGES_PATH": str(directory / "images.enc"),
        "API_VERSION": VERSION,
    }
    with LoaderServer(directory, env) as running:
        assert login(running.url, {"email": DEVICE, "password": site.secret}).status == 200
        yield running


@pytest.fixture
def loader(site: Site, tmp_path: Path) -> Iterator[LoaderServer]:
    with logged_in(site, tmp_path / "device") as running:
        yield running


def kill(api: Api) -> None:
    """Kill the master and its worker, as a dying host does."""
    for pid in (api.process.pid, api.worker()):
        os.kill(pid, signal.SIGKILL)


def kill_over(site: Site, suffix: str) -> None:
    """Kill the process of the API that has a file open whose path contains `suffix`."""
    found: list[Api] = []

    def has_begun() -> bool:
        found[:] = [api for api in site.apis if suffix in str(open_descriptors(api.worker()))]
        return bool(found)

    poll(has_begun, SECONDS, f"{suffix} is open")
    kill(found[0])


def waits_for(port: int) -> bool:
    """Return whether a server at `port` has bytes of a client that it has not read (proc_net_tcp(5): rx_queue)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]
    return any(int(row[4].partition(":")[2], 16) for row in established)


def test_a_load_goes_on(site: Site, loader: LoaderServer) -> None:
    content = os.urandom(SIZE)
    sent = upload(loader.url, "models", "net", content)
    assert sent.status == 200, sent.body
    assert call(loader.url, "POST", "/cache/clear").status == 200
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load, loader.url, "models", "net")
        kill_over(site, ".big")
        reply = running.result()
    assert (reply.status, reply.body == content) == (200, True)


def test_an_upload_goes_on(site: Site, loader: LoaderServer) -> None:
    content, lame = os.urandom(SIZE), site.apis[0]
    with ThreadPoolExecutor(1) as pool:
        os.kill(lame.worker(), signal.SIGSTOP)  # so that a request is on its way to it for sure
        running = pool.submit(upload, loader.url, "models", "net", content)
        poll(lambda: waits_for(lame.port), SECONDS, "a request is on its way")
        kill(lame)
        assert running.result().status == 200
    assert call(loader.url, "POST", "/cache/clear").status == 200
    assert load(loader.url, "models", "net").body == content


def test_a_fetch_goes_on(site: Site, loader: LoaderServer, tmp_path: Path) -> None:
    archive = release(tmp_path / "1.enc", 1, 3 * MIB)
    write_objects(site.apis[0].data.resources, objects(archive))
    fetcher = Fetcher(loader.url, tmp_path / "device" / "images.enc")
    fetcher.start()
    kill_over(site, ".blob")
    assert fetcher.wait()["state"] == "fetched"
    fetcher.require(archive)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SwiftStore]:
    (tmp_path / "store").mkdir()
    with SwiftStore(tmp_path / "store") as running:
        yield running


@pytest.fixture
def store_site(store: SwiftStore, tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    with api_site(tmp_path / "site", SLOW, store) as running:
        yield running


@pytest.mark.long
@pytest.mark.parametrize("killed", [0, 1])
def test_transfers_with_a_store_go_on(store: SwiftStore, store_site: Site, tmp_path: Path, killed: int) -> None:
    """One of the two has begun the upload; the other continues it, if that one is killed."""
    content = os.urandom(SIZE)
    lame = store_site.apis[killed]
    with logged_in(store_site, tmp_path / "device") as loader, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(upload, loader.url, "models", "net", content)
        poll(lambda: any(store.bucket(BIG).uploads()), SECONDS, "an upload has begun")
        kill(lame)
        assert not sending.done()
        assert sending.result().status == 200

        assert call(loader.url, "POST", "/cache/clear").status == 200
        loading = pool.submit(call, loader.url, "GET", "/models/models/net", silence_seconds=RESTART_SECONDS)
        partial = tmp_path / "device" / "models"
        poll(lambda: any(path.stat().st_size > MIB for path in partial.rglob("*.partial")), SECONDS, "a part is here")
        store.kill()
        assert not loading.done()
        store.restart()
        assert loading.result().body == content
    errors = (tmp_path / "site" / "error.log").read_text()
    assert "X-Amz-Signature" not in errors
