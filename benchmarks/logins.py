"""What a login and a read cost the resource API, by the number of users, and reads beside clients that guess."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from benchmarks.api_process import ApiProcess, served
from benchmarks.measure import p50_and_p99
from benchmarks.peers import REPOSITORY, python
from benchmarks.servers import EMAIL
from benchmarks.tables import Figure, Figures
from benchmarks.workload import Workload
from resource_api.accounts import Users
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.support.procfs import peak_rss_bytes

USERS = (10, 1_000, 10_000)
DEVICE = "bench-device"
PASSWORD = "bench password"
READS, SECRETS, PASSWORDS = 1_000, 500, 20
GUESSING_CLIENTS = 10
PROBES = 300
PAUSE_SECONDS = 0.01
ANSWER_SECONDS = 60.0
MIB = 1 << 20
KEY = "/binary-split/key-fragment"


@dataclass(frozen=True)
class Api:
    """A running resource API, and the secret of DEVICE."""

    running: ApiProcess
    secret: str


class Client:
    """A client that keeps its connection."""

    def __init__(self, api: Api) -> None:
        """Log in as DEVICE."""
        self._connection = http.client.HTTPConnection(api.running.address, timeout=ANSWER_SECONDS)
        token = self.log_in(DEVICE, api.secret)
        self._bearer = {"Authorization": f"Bearer {token}"}

    def log_in(self, email: str, password: str) -> str:
        """Return a token."""
        body = json.dumps({"email": email, "password": password})
        token: str = json.loads(self._call("POST", "/login", {"Content-Type": "application/json"}, body))["token"]
        return token

    def read(self) -> None:
        """Get the key fragment."""
        self._call("GET", KEY, self._bearer)

    def _call(self, method: str, path: str, headers: dict[str, str], body: str | None = None) -> bytes:
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        assert response.status == HTTPStatus.OK, response.status
        return content


def logins(work: Workload) -> list[Figures]:
    """Measure processor time by the number of users, then the time of reads without and with guessing clients."""
    with ExitStack() as running:
        place = running.enter_context(work.place("logins"))
        apis = {count: running.enter_context(_api(place / str(count), count)) for count in USERS}
        costs: dict[str, list[float]] = {}
        reads: dict[str, list[float]] = {}
        for number in range(1 + work.rounds):
            for count, api in apis.items():
                for name, milliseconds in _costs(api):
                    costs.setdefault(f"{count} users: {name}", []).append(milliseconds)
            for name, figure in _reads(apis[USERS[0]]):
                reads.setdefault(name, []).append(figure)
            print(f"logins, round {number} of {work.rounds}", file=sys.stderr)
    return [
        _figures("processor time of the resource API for one request", costs),
        _figures(f"reads every {1000 * PAUSE_SECONDS:.0f} ms, by one client", reads),
    ]


def _figures(title: str, values: dict[str, list[float]]) -> Figures:
    """Return a table without the first round, which does not count."""
    rows = [Figure(name, "MiB" if "memory" in name else "ms", tuple(taken[1:])) for name, taken in values.items()]
    return Figures(title, tuple(rows), ())


def _costs(api: Api) -> Iterator[tuple[str, float]]:
    """Yield what each kind of request costs the worker, in milliseconds of processor time."""
    client = Client(api)
    for name, count, request in (
        ("a read", READS, client.read),
        ("a login by the secret of a device", SECRETS, partial(client.log_in, DEVICE, api.secret)),
        ("a login by a password", PASSWORDS, partial(client.log_in, EMAIL, PASSWORD)),
    ):
        before = api.running.processor_seconds()
        for _ in range(count):
            request()
        yield name, 1000 * (api.running.processor_seconds() - before) / count


def _reads(api: Api) -> Iterator[tuple[str, float]]:
    """Yield p50 and p99 of reads in milliseconds, alone and beside guessing clients, and the highest memory in MiB."""
    for name, guessing in (("alone", 0), (f"beside {GUESSING_CLIENTS} clients that guess", GUESSING_CLIENTS)):
        with guesses(api.running.address, EMAIL, guessing):
            p50, p99 = p50_and_p99(_probe(Client(api)))
        yield f"{name}: p50", 1000 * p50
        yield f"{name}: p99", 1000 * p99
    yield "highest memory of the worker", peak_rss_bytes(api.running.worker) / MIB


def _probe(client: Client) -> list[float]:
    """Return the seconds that each of PROBES reads took."""
    taken = []
    for _ in range(PROBES):
        time.sleep(PAUSE_SECONDS)
        started = time.perf_counter()
        client.read()
        taken.append(time.perf_counter() - started)
    return taken


@contextmanager
def guesses(address: str, email: str, clients: int) -> Iterator[None]:
    """Let `clients` clients, in a process of their own, guess the password of `email` during the block."""
    command = python("benchmarks.guessing_clients", address, email, str(clients))
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guessing:
        assert guessing.stdout is not None
        assert guessing.stdin is not None
        guessing.stdout.readline()  # it says that it has begun
        yield
        guessing.stdin.close()
        assert guessing.wait() == 0


@contextmanager
def _api(directory: Path, users: int) -> Iterator[Api]:
    """Run the resource API as its users do, with this number of users, of which one is a device."""
    directory.mkdir()
    data = DataDirectory.create(directory / "data")
    Fragments(data).set(bytes(32))
    _, _, secret = Users(data).set_secret(DEVICE)
    Users(data).set_password(EMAIL, PASSWORD)
    stored: dict[str, Any] = json.loads(data.users_file.read_bytes())
    # All have the same hash, because thousands of others would take minutes to compute.
    others = {f"user-{number}@example.com": stored[EMAIL] for number in range(users - len(stored))}
    data.write_private(data.users_file, json.dumps(stored | others).encode())
    with served(directory / "server", data) as running:
        yield Api(running, secret)
