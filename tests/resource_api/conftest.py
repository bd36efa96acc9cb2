"""A running Resource API, and a client that sends every request exactly as the test gives it."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from resource_api.accounts import Role, Users
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.support.processes import ManagedProcess, clean_env, free_port
from tests.support.procfs import children

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 60
RESPONSE_SECONDS = 30
EMAIL = "operator@example.com"
PASSWORD = "correct horse battery staple"
FRAGMENT = bytes(range(32))


class Reply(NamedTuple):
    """A complete response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def problem(self) -> dict[str, object]:
        """Check that the body is a problem document, and return it."""
        assert self.headers["Content-Type"] == "application/problem+json"
        problem = json.loads(self.body)
        assert isinstance(problem, dict)
        expected = {"title", "status", "detail"}
        assert set(problem) == (expected | {"code", "hint"} if self.status == http.client.FORBIDDEN else expected)
        assert problem["status"] == self.status
        assert problem["title"]
        assert problem["detail"]
        assert b"Traceback" not in self.body
        return problem


class Api:
    """A server process on the data directory `data`. The end of the `with` block stops it."""

    def __init__(self, data: DataDirectory, **environment: str) -> None:
        self.data = data
        self.port = free_port()
        home = data.root.parent
        self.process = ManagedProcess(
            "resource_api",
            [sys.executable, "-m", "resource_api", "serve", str(data.root), "--bind", f"127.0.0.1:{self.port}"],
            home,
            env=clean_env(home, **environment),
            cwd=REPOSITORY,
        )
        try:
            self.process.wait_until(self._listens, START_SECONDS, "the Resource API listens")
        except BaseException:
            self.process.stop()
            raise

    def call(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Reply:
        """Send one request on a connection of its own, with an unchanged `path`, and return the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=RESPONSE_SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def send_and_close(self, request: bytes) -> bytes:
        """Send raw bytes, close the sending side, and return the bytes of the response."""
        with socket.create_connection(("127.0.0.1", self.port), RESPONSE_SECONDS) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    def login(self, email: str = EMAIL, password: str = PASSWORD) -> Reply:
        """POST /login."""
        body = json.dumps({"email": email, "password": password}).encode()
        return self.call("POST", "/login", {"Content-Type": "application/json"}, body)

    def bearer(self, email: str = EMAIL, password: str = PASSWORD) -> dict[str, str]:
        """Log in, and return the Authorization header for further calls."""
        return {"Authorization": f"Bearer {json.loads(self.login(email, password).body)['token']}"}

    def worker(self) -> int:
        """Return the pid of the worker process."""
        (pid,) = children(self.process.pid)
        return pid

    def stored(self) -> dict[str, bytes]:
        """Return the content of every file below resources/ and tmp/ by path; a folder's path ends in a slash."""
        root, found = self.data.root, {}
        for path in [path for top in (self.data.resources, self.data.temporary) for path in top.rglob("*")]:
            with suppress(FileNotFoundError):  # removed since the listing
                name = str(path.relative_to(root))
                found.update({f"{name}/": b""} if path.is_dir() else {name: path.read_bytes()})
        return found

    def _listens(self) -> bool:
        try:
            return self.call("GET", "/").status == http.client.NOT_FOUND
        except ConnectionRefusedError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    """Return a new data directory with one user, a publisher."""
    return new_data(tmp_path)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Yield a server with one user and a key fragment, which the tests of a module share."""
    data = new_data(tmp_path_factory.mktemp("shared"))
    Fragments(data).set(FRAGMENT)
    with Api(data) as running:
        yield running


@pytest.fixture(scope="module")
def bearer(api: Api) -> dict[str, str]:
    """Return the Authorization header of a login at `api`."""
    return api.bearer()


def new_data(parent: Path) -> DataDirectory:
    """Make a data directory with one user, a publisher."""
    data = DataDirectory.create(parent / "data")
    Users(data).set_password(EMAIL, PASSWORD, Role.PUBLISHER)
    return data
