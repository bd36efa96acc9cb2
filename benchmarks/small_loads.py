"""Many loads of a small model by many clients."""

from __future__ import annotations

import json
from contextlib import ExitStack

from benchmarks.measure import Contender, Result, compare
from benchmarks.peers import process, python
from benchmarks.servers import loader, nginx, resource_api
from benchmarks.workload import Workload
from tests.support.http_calls import upload

SIZE = 64 * 1024
CLIENTS = 64
REQUESTS = 1280
# Less than they are told, so that the slots stay full.
BUSY_SECONDS = 0.05
FOLDER, NAME = "bench", "small.bin"
PATH = f"/load/{NAME}"
AS_TOLD = -1.0


def small_loads(work: Workload) -> Result:
    """Loads of a 64 KiB model by 64 clients, and as many GETs of it from nginx by the same clients."""
    with ExitStack() as running:
        place = running.enter_context(work.place("small-loads"))
        api = running.enter_context(resource_api(place / "api"))
        server = running.enter_context(loader(place / "loader", api))
        web = running.enter_context(nginx(place / "nginx"))
        (web.www / NAME).write_bytes(small_model(server.url, work))
        mib = REQUESTS * SIZE >> 20
        ours = process(
            f"loader, {REQUESTS} loads of 64 KiB, {CLIENTS} clients",
            mib,
            load_clients(server.url, "POST", PATH, count=REQUESTS, busy_seconds=BUSY_SECONDS),
        )

        def theirs() -> Contender:
            clients = load_clients(web.url, "GET", f"/{NAME}", count=REQUESTS, busy_seconds=BUSY_SECONDS)
            return process("nginx, as many GETs of the plaintext", mib, clients)

        return compare(f"{REQUESTS} small loads", work.rounds, ours, [theirs])


def small_model(url: str, work: Workload) -> bytes:
    """Upload the model of PATH; its content."""
    with work.data.open("rb") as file:
        content = file.read(SIZE)
    assert upload(url, FOLDER, NAME, content).status == 200
    return content


def load_clients(url: str, method: str, path: str, *, count: int, busy_seconds: float | None) -> list[str]:
    """The command of CLIENTS clients; without `busy_seconds` they wait after BUSY as they are told."""
    body = json.dumps({"filename": NAME, "folder": FOLDER}) if method == "POST" else ""
    busy = AS_TOLD if busy_seconds is None else busy_seconds
    return python("benchmarks.load_clients", url, method, path, body, str(CLIENTS), str(count), str(busy))
