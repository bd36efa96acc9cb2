"""Many loads of a small model by many clients, and what /health is worth meanwhile."""

from __future__ import annotations

import http
import http.client
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from urllib.parse import urlsplit

from benchmarks.measure import Contender, Result, compare
from benchmarks.servers import loader, nginx, resource_api
from benchmarks.workload import Workload
from tests.support.http_calls import upload

SIZE = 64 * 1024
CLIENTS = 64
REQUESTS = 1280
# What a client waits after BUSY: less than it is told, so that the slots stay full.
BUSY_SECONDS = 0.05
FOLDER, NAME = "bench", "small.bin"
BODY = json.dumps({"filename": NAME, "folder": FOLDER})
JSON = {"Content-Type": "application/json"}


def small_loads(work: Workload) -> Result:
    """Loads of a 64 KiB model by 64 clients, and as many GETs of it from nginx. Prints the latency of /health."""
    content = _first(work)
    with ExitStack() as running:
        place = running.enter_context(work.place("small-loads"))
        api = running.enter_context(resource_api(place / "api"))
        server = running.enter_context(loader(place / "loader", api))
        assert upload(server.url, FOLDER, NAME, content).status == 200
        web = running.enter_context(nginx(place / "nginx"))
        (web.www / NAME).write_bytes(content)
        mib = REQUESTS * SIZE >> 20
        ours = Contender(
            f"loader, {REQUESTS} loads of 64 KiB, {CLIENTS} clients",
            mib,
            partial(_all, server.url, "POST", f"/load/{NAME}", watched=True),
        )
        peer = Contender("nginx, as many GETs of the plaintext", mib, partial(_all, web.url, "GET", f"/{NAME}"))
        return compare(f"{REQUESTS} small loads", work.rounds, ours, [lambda: peer])


def _first(work: Workload) -> bytes:
    with work.data.open("rb") as file:
        return file.read(SIZE)


def _all(url: str, method: str, path: str, *, watched: bool = False) -> None:
    with ThreadPoolExecutor(CLIENTS + 1) as clients:
        running = [clients.submit(_client, url, method, path) for _ in range(CLIENTS)]
        probes: list[float] = []
        while watched and not all(client.done() for client in running):
            probes.append(_probe(url))
            time.sleep(0.01)
        for client in running:
            client.result()
    if probes:
        centiles = statistics.quantiles(probes, n=100) if len(probes) > 1 else probes * 99
        figures = f"median {1000 * centiles[49]:.1f} ms, p99 {1000 * centiles[98]:.1f} ms, {len(probes)} probes"
        print(f"  /health meanwhile: {figures}", file=sys.stderr)


def _client(url: str, method: str, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    left = REQUESTS // CLIENTS
    while left:
        connection.request(method, path, BODY if method == "POST" else None, JSON)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            time.sleep(BUSY_SECONDS)
            continue
        assert answer.status == http.HTTPStatus.OK
        assert len(body) == SIZE
        left -= 1
    connection.close()


def _probe(url: str) -> float:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    started = time.perf_counter()
    connection.request("GET", "/health")
    assert connection.getresponse().read()
    connection.close()
    return time.perf_counter() - started
