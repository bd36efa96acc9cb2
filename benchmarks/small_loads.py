"""Many loads of a small model by many clients: the cost of a load beside its bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measure import Contender, compare, p50_and_p99
from benchmarks.peers import REPOSITORY, python
from benchmarks.servers import loader, loader_of, nginx, resource_api
from benchmarks.tables import Figure, Figures, Result
from benchmarks.workload import Workload
from tests.support.http_calls import upload
from tests.support.publishers import ANNA, write_key, write_publishers

SIZE = 64 * 1024
CLIENTS = 16
REQUESTS = 1280
# A client retries soon, because a slot is given back just after the last byte and the client may be faster.
BUSY_SECONDS = 0.05
FOLDER, NAME = "bench", "small.bin"
PATH = f"/load/{NAME}"
AS_TOLD = -1.0


class Clients:
    """CLIENTS clients of one server, and their results of each run."""

    def __init__(self, name: str, url: str, method: str, path: str) -> None:
        self._name = name
        self._command = load_clients(url, method, path, clients=CLIENTS, count=REQUESTS, busy_seconds=BUSY_SECONDS)
        self._told: list[tuple[float, float, float]] = []

    def contender(self) -> Contender:
        """Run the clients. The time is that of all requests, without the start of the clients."""
        return Contender(self._name, REQUESTS * SIZE >> 20, self._run)

    def figures(self, rounds: int) -> list[Figure]:
        """Return the results of the last `rounds` runs."""
        rate, p50, p99 = zip(*self._told[-rounds:], strict=True)
        return [
            Figure(f"{self._name}: all of them", "a second", rate),
            Figure(f"{self._name}: p50 of one", "ms", p50),
            Figure(f"{self._name}: p99 of one", "ms", p99),
        ]

    def _run(self) -> float:
        done = subprocess.run(self._command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE)
        told = json.loads(done.stdout)
        p50, p99 = p50_and_p99(told["taken"])
        self._told.append((REQUESTS / told["seconds"], 1000 * p50, 1000 * p99))
        print(f"  p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms, {told['busy']} answers were BUSY", file=sys.stderr)
        return float(told["seconds"])


def small_loads(work: Workload) -> list[Result | Figures]:
    """Compare loads of a 64 KiB model by 16 clients with a slot each with as many GETs of the model from nginx.

    A second loader asks for the signature of the model. If OTHER_CHECKOUT names a directory with another version, its
    loader is measured, too.
    """
    with ExitStack() as running:
        place = running.enter_context(work.place("small-loads"))
        api = running.enter_context(resource_api(place / "api"))
        slots = {"MAX_TRANSFERS": str(CLIENTS)}
        server = running.enter_context(loader(place / "loader", api, **slots))
        keys = {
            "SIGNING_KEY": str(write_key(place / "anna.key", ANNA)),
            "PUBLISHER_KEYS": str(write_publishers(place / "publishers")),
        }
        strict = running.enter_context(loader(place / "strict", api, **slots, **keys))
        content = small_model(strict.url, work)
        measured = [
            Clients(f"loader with MAX_TRANSFERS={CLIENTS}", server.url, "POST", PATH),
            Clients("the same with PUBLISHER_KEYS", strict.url, "POST", PATH),
        ]
        if other := os.environ.get("OTHER_CHECKOUT"):
            other_api = running.enter_context(resource_api(place / "other-api"))
            older = running.enter_context(loader_of(Path(other), place / "other", other_api, slots))
            small_model(older.url, work)
            measured.append(Clients("loader of OTHER_CHECKOUT", older.url, "POST", PATH))

        def theirs() -> Contender:
            web = running.enter_context(nginx(place / "nginx"))
            (web.www / NAME).write_bytes(content)
            measured.append(Clients("nginx, the plaintext as a file", web.url, "GET", f"/{NAME}"))
            return measured[-1].contender()

        title = f"{REQUESTS} loads of 64 KiB, {CLIENTS} clients"
        whole = compare(
            title, work.rounds, measured[0].contender(), [*(each.contender for each in measured[1:]), theirs]
        )
    figures = [figure for clients in measured for figure in clients.figures(work.rounds)]
    return [whole, Figures(f"{title}: rate, and time of a single one", tuple(figures), ())]


def small_model(url: str, work: Workload) -> bytes:
    """Upload the model of PATH. Return its content."""
    with work.data.open("rb") as file:
        content = file.read(SIZE)
    assert upload(url, FOLDER, NAME, content).status == 200
    return content


def load_clients(
    url: str, method: str, path: str, *, clients: int, count: int, busy_seconds: float | None
) -> list[str]:
    """Return the command of `clients` clients. Without `busy_seconds` they honour the Retry-After of a BUSY."""
    body = json.dumps({"filename": NAME, "folder": FOLDER}) if method == "POST" else ""
    busy = AS_TOLD if busy_seconds is None else busy_seconds
    return python("benchmarks.load_clients", url, method, path, body, str(clients), str(count), str(busy))
