"""The reference Resource API in a process of its own, with a record of every request that reached it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self
from unittest.mock import patch

from werkzeug.security import generate_password_hash

from resource_api.accounts import Role, Users
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.support.http_probe import http_status
from tests.support.loader_server import REPOSITORY
from tests.support.planted import plant, plant_from
from tests.support.processes import ManagedProcess, clean_env, free_port

READY_SECONDS = 30.0
THREADS = 16
# gunicorn's own default.
KEEP_ALIVE_SECONDS = 2
TOKEN_SECONDS = 3600
NOTE_REQUESTS = REPOSITORY / "tests" / "support" / "note_requests.py"


@dataclass(frozen=True)
class ApiRequest:
    """One request as the API received it. Header names are in upper case; `path` does not include the query."""

    method: str
    path: str
    query: str
    headers: dict[str, str]


class ResourceApiServer:
    """A running reference API, which is ready when the constructor returns. The end of the `with` block stops it.

    Files in `directory` collect its output. Its data directory is `data_dir`, usually that of an earlier server; by
    default the constructor creates a new one in `directory`.
    """

    # How the passwords of users are hashed. tests/conftest.py lowers the cost, and benchmarks pay the real one.
    hashing = "scrypt"
    # Benchmarks take the class that `azaion-resource-api serve` takes.
    worker_class = "gthread"

    def __init__(
        self,
        directory: Path,
        *,
        data_dir: Path | None = None,
        token_seconds: int = TOKEN_SECONDS,
        port: int | None = None,
        keep_alive: int = KEEP_ALIVE_SECONDS,
        store: Mapping[str, str] | None = None,
    ) -> None:
        """Keep idle connections open for `keep_alive` seconds, which proxies in front of an API often do for longer.

        `store` is the environment that names a store.
        """
        self.data_dir = data_dir or directory / "data"
        self._notes = directory / "requests.jsonl"
        self._notes.touch()
        self._env = clean_env(
            directory,
            RESOURCE_API_DATA=str(self.data_dir),
            RESOURCE_API_TOKEN_SECONDS=str(token_seconds),
            REQUEST_NOTES=str(self._notes),
            **(store or {}),
        )
        self._data = DataDirectory.create(self.data_dir)
        plant_from(self._tokens)
        bind = f"127.0.0.1:{port or free_port()}"
        self.url = f"http://{bind}"
        self.process = ManagedProcess(
            "resource-api",
            [
                *(sys.executable, "-m", "gunicorn", "-c", str(NOTE_REQUESTS), "--no-control-socket"),
                *("--worker-class", self.worker_class, "--threads", str(THREADS), "--keep-alive", str(keep_alive)),
                *("--bind", bind, "resource_api.wsgi:app"),
            ],
            directory,
            env=self._env,
            cwd=REPOSITORY,
        )
        try:
            self.process.wait_until(lambda: http_status(self.url) is not None, READY_SECONDS, "the API responds")
        except BaseException:
            self.stop()
            raise
        self.forget_requests()  # those of `http_status` above

    def add_user(self, email: str, password: str, role: Role = Role.READER) -> None:
        """Let `email` log in with `password`, and register the password as a secret that no loader may write."""
        plant(password)
        hashing = partial(generate_password_hash, method=self.hashing)
        with patch("resource_api.accounts.generate_password_hash", hashing):
            Users(self._data).set_password(email, password, role)

    def add_device(self, name: str, secret: str, role: Role = Role.READER) -> None:
        """Let the device `name` log in with `secret`, as `add_user` does, but without a slow hash."""
        plant(secret)
        with patch("resource_api.device_secrets.new_secret", lambda: secret):
            Users(self._data).set_secret(name, role)

    def set_fragment(self, fragment: bytes) -> None:
        """Set the key fragment, and register it as a secret that no loader may write."""
        plant(fragment)
        Fragments(self._data).set(fragment, force=True)

    def requests(self, method: str | None = None, path: str | None = None) -> list[ApiRequest]:
        """Return the requests so far in order, only those of `method` and of exactly `path` if these are given.

        A request is in the list before the client has the response.
        """
        noted = [ApiRequest(**json.loads(line)) for line in self._notes.read_text().splitlines()]
        return [seen for seen in noted if method in (None, seen.method) and path in (None, seen.path)]

    def forget_requests(self) -> None:
        """Forget the requests so far."""
        self._notes.write_text("")

    def _tokens(self) -> set[str]:
        if not self._notes.exists():  # pytest may have removed the directory of an earlier test
            return set()
        bearers = [request.headers.get("AUTHORIZATION", "") for request in self.requests()]
        return {bearer.removeprefix("Bearer ") for bearer in bearers}

    def stop(self) -> int:
        """Stop the API by SIGTERM and return its exit code; if it has ended already, only return the code."""
        return self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
