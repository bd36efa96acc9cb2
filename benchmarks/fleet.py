"""Many simulated devices at the resource API: their times, its memory, and what one request of each kind costs."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.api_process import ApiProcess, processor_seconds, served
from benchmarks.fleet_site import (
    BIG,
    FRAGMENT_PATH,
    HEAD,
    balanced,
    make_fleet,
    password_of,
    plan,
    simulated,
    small,
)
from benchmarks.logins import GUESSING_CLIENTS, guesses
from benchmarks.measure import p50_and_p99
from benchmarks.servers import Nginx, nginx
from benchmarks.tables import Figure, Figures
from benchmarks.workload import MIB, Workload
from resource_api.data_directory import DataDirectory
from tests.support.procfs import children, peak_rss_bytes

# With BENCH_MIB at its default of 1024; other values change the number of devices, and not how many begin a second.
DEVICES, SECONDS, FULL_MIB = 1_000, 60.0, 1024
FEWEST_DEVICES = 30
ANSWER_SECONDS = 60.0
# How often each request is sent to find what it costs.
COSTS = {"login by a secret": 500, "login by a password": 20, "fragment": 1_000, "head": 1_000} | {
    "small part": 1_000,
    "big part": 100,
}
STORE_REQUESTS = 100

Devices = list[tuple[str, str]]


def fleet(work: Workload) -> list[Figures]:
    """Measure one run of each case, whatever BENCH_ROUNDS says, because a run has thousands of requests.

    Raises Missing.
    """
    count = max(FEWEST_DEVICES, DEVICES * min(work.mib, FULL_MIB) // FULL_MIB)
    seconds = SECONDS * count / DEVICES
    with work.place("fleet") as place:
        data, devices = make_fleet(place / "data", count)
        people = [password_of(name) for name, _ in devices]
        title = f"{count} devices within {seconds:.0f} s"
        return [
            _figures(f"{title}, passwords", _alone(place / "passwords", data, people, seconds, 0)),
            _figures(f"{title}, secrets", _alone(place / "secrets", data, devices, seconds, 0)),
            _figures(
                f"{title}, secrets, beside {GUESSING_CLIENTS} clients that guess",
                _alone(place / "guesses", data, devices, seconds, GUESSING_CLIENTS),
            ),
            _figures(
                f"{title}, secrets, nginx and two processes, of which one is killed",
                _killed(place / "killed", data, devices, seconds),
            ),
            _figures("processor time for one request", _costs(place / "costs", data, devices)),
        ]


def _figures(title: str, measured: Iterator[tuple[str, str, float]]) -> Figures:
    rows = []
    for name, unit, value in measured:
        print(f"{title}: {value:10.1f} {unit:<8} {name}", file=sys.stderr)
        rows.append(Figure(name, unit, (value,)))
    return Figures(title, tuple(rows), ())


def _alone(
    directory: Path, data: DataDirectory, devices: Devices, seconds: float, guessing: int
) -> Iterator[tuple[str, str, float]]:
    """Yield the figures of one process."""
    with served(directory, data) as api:
        with (
            guesses(api.address, "person", guessing) if guessing else nullcontext(),
            simulated(plan(data, api.address, devices, seconds)) as reports,
        ):
            pass
        yield from _told(reports[0])
        yield "highest memory of the worker", "MiB", peak_rss_bytes(api.worker) / MIB
        yield "processor time of the worker", "s", api.processor_seconds()


def _killed(directory: Path, data: DataDirectory, devices: Devices, seconds: float) -> Iterator[tuple[str, str, float]]:
    """Yield the figures of two processes behind nginx, one of which is killed in the middle."""
    with balanced(directory, data) as (address, apis):
        with simulated(plan(data, address, devices, seconds)) as reports:
            time.sleep(seconds / 2)
            apis[0].kill()
        yield from _told(reports[0])


def _told(report: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yield what the devices report."""
    yield "devices that got everything", "", report["complete"]
    yield "requests that a device repeated", "", sum(report["troubles"].values())
    for trouble, number in report["troubles"].items():
        yield f"of them {trouble}", "", number
    for kind, taken in report["taken"].items():
        p50, p99 = p50_and_p99(taken)
        yield f"{kind}: p50", "ms", 1000 * p50
        yield f"{kind}: p99", "ms", 1000 * p99


def _costs(directory: Path, data: DataDirectory, devices: Devices) -> Iterator[tuple[str, str, float]]:
    """Yield what each kind of request costs the API, in milliseconds of processor time, and a big part nginx.

    nginx stands for a store and for a CDN, which do what it does: they send files. Raises Missing.
    """
    with served(directory, data) as api:
        client = _Client(api, *devices[0])
        for kind, count in COSTS.items():
            before = api.processor_seconds()
            for _ in range(count):
                client.send(kind)
            yield kind, "ms", 1000 * (api.processor_seconds() - before) / count
    with nginx(directory / "nginx") as store:
        (store.www / "big").symlink_to(data.resources / BIG)
        store_client = _Store(store)
        before = store_client.processor_seconds()
        for _ in range(STORE_REQUESTS):
            store_client.get("/big")
        yield "big part, nginx", "ms", 1000 * (store_client.processor_seconds() - before) / STORE_REQUESTS


class _Store:
    """nginx, and a client that keeps its connection."""

    def __init__(self, store: Nginx) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(store.url).netloc, timeout=ANSWER_SECONDS)
        self._pids = children(store.pid)

    def processor_seconds(self) -> float:
        """Return the processor time of all worker processes so far."""
        return sum(processor_seconds(pid) for pid in self._pids)

    def get(self, path: str) -> None:
        """Get a file."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        assert response.status == HTTPStatus.OK
        response.read()


class _Client:
    """A device that keeps its connection."""

    def __init__(self, api: ApiProcess, name: str, secret: str) -> None:
        self._connection = http.client.HTTPConnection(api.address, timeout=ANSWER_SECONDS)
        self._logins = {"login by a secret": (name, secret), "login by a password": password_of(name)}
        self._paths = {"fragment": FRAGMENT_PATH, "head": f"/resources/{HEAD}", "small part": f"/resources/{small(0)}"}
        self._paths["big part"] = f"/resources/{BIG}"
        self._headers = {"Authorization": f"Bearer {json.loads(self.send('login by a secret'))['token']}"}

    def send(self, kind: str) -> bytes:
        """Send one request of COSTS, and return the body of its response."""
        if kind in self._logins:
            body = json.dumps(dict(zip(("email", "password"), self._logins[kind], strict=True)))
            self._connection.request("POST", "/login", body, {"Content-Type": "application/json"})
        else:
            self._connection.request("GET", self._paths[kind], headers=self._headers)
        response = self._connection.getresponse()
        content = response.read()
        assert response.status == HTTPStatus.OK, response.status
        return content
