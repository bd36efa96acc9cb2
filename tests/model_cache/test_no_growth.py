"""A thousand loads leave the memory, the threads and the open descriptors of the loader unchanged."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.loads import get_status, load_hashed
from tests.support.processes import poll
from tests.support.procfs import open_descriptors, thread_count
from tests.support.sites import Site, real_site
from tests.support.stored_resources import FOLDER, MIB, StoredResource, store_resource

# The process may keep the buffers of all clients, 4 MiB each, and as much again because of fragmentation. A leak of one
# buffer per load would be far larger.
MAX_GROWTH = 32 * MIB
# The loader makes threads and connections to the API when it first needs them, so some may come after the first count.
MAX_LATE = 8
CLIENTS = 4
SECONDS = 20
BUFFER_SIZE = MIB


@dataclass(frozen=True)
class Held:
    """What a process holds: `rss` in bytes, and in `files` the names of all open descriptors except sockets."""

    rss: int
    threads: int
    files: list[str]
    sockets: int


def held_by(pid: int) -> Held:
    named = open_descriptors(pid)
    sockets = [name for name in named.values() if name.startswith("socket:")]
    files = sorted(set(named.values()) - set(sockets))
    status = Path(f"/proc/{pid}/status").read_text()
    rss = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))
    return Held(rss, thread_count(pid), files, len(sockets))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Start a loader with as many threads as clients, and a reference API."""
    with real_site(tmp_path / "site", LOADER_THREADS=str(CLIENTS), LOG_LEVEL="ERROR") as running:
        yield running


def discard(url: str, filename: str, size: int) -> None:
    """Load a resource of `size` bytes; count its bytes but leave them in the kernel."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    body = json.dumps({"filename": filename, "folder": FOLDER})
    connection.request("POST", f"/load/{filename}", body, {"Content-Type": "application/json", "Connection": "close"})
    sock = connection.sock
    with connection.getresponse() as response:
        assert response.status == 200, response.read()
        assert int(response.headers["Content-Length"]) == size
        left = size - len(response.read1(1 << 16))
        buffer = bytearray(BUFFER_SIZE)
        while left and (count := sock.recv_into(buffer, min(left, BUFFER_SIZE), socket.MSG_TRUNC)):
            left -= count
        assert left == 0
    connection.close()


@pytest.mark.parametrize(("size", "count"), [(MIB, 400), (8 * MIB, 100)], ids=["400 of 1 MiB", "100 of 8 MiB"])
def test_warm_loads_leak_nothing(site: Site, tmp_path: Path, size: int, count: int) -> None:
    resource = store_resource(tmp_path, "resource", size)
    resource.copy_to(site.api.data_dir / "resources")
    assert load_hashed(site.url, resource.filename).sha256 == resource.sha256
    load_many(site, resource, 4 * CLIENTS)
    before = held_at_rest(site)
    load_many(site, resource, count)
    assert len(site.api.requests("GET", f"/resources/{resource.big_path}")) == 1
    assert_no_growth(before, held_at_rest(site))
    assert load_hashed(site.url, resource.filename).sha256 == resource.sha256


def held_at_rest(site: Site) -> Held:
    """Wait until the loader has closed all files of the cache, and return what it holds then."""
    pid = site.loader.worker_pid
    poll(lambda: not any(f"{site.models}/" in name for name in held_by(pid).files), SECONDS, "no part is in use")
    poll(lambda: held_by(pid).sockets <= 2 * CLIENTS + 2, SECONDS, "no connection of a client")
    return held_by(pid)


def assert_no_growth(before: Held, after: Held) -> None:
    assert after.files == before.files
    assert after.threads - before.threads < MAX_LATE
    assert after.sockets - before.sockets < MAX_LATE
    assert after.rss - before.rss < MAX_GROWTH


def load_many(site: Site, resource: StoredResource, count: int) -> None:
    with ThreadPoolExecutor(CLIENTS) as clients:
        for _ in clients.map(lambda _: discard(site.url, resource.filename, resource.size), range(count)):
            pass


def test_cold_loads_leak_nothing(site: Site, tmp_path: Path) -> None:
    """Each load has its own download: a thread, a session and a file."""

    def cold_load(number: int) -> None:
        resource = store_resource(tmp_path, f"cold-{number}", 2 * MIB)
        resource.copy_to(site.api.data_dir / "resources")
        assert load_hashed(site.url, resource.filename).sha256 == resource.sha256
        poll(lambda: not get_status(site.url)["cache"]["downloads"], SECONDS, "no download runs")

    for number in range(10):
        cold_load(number)
    before = held_at_rest(site)
    for number in range(10, 40):
        cold_load(number)
    assert_no_growth(before, held_at_rest(site))
