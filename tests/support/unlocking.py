"""An operator who unlocks a device, and the device itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.support.archives import remove_all_images
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.http_framing import RecordedRequest
from tests.support.http_probe import connect
from tests.support.loader_server import LoaderServer
from tests.support.processes import poll
from tests.support.resource_api_server import ResourceApiServer

EMAIL = "operator@example.com"
PASSWORD = "correct horse battery staple"
ANSWER_SECONDS = 30.0
UNLOCK_SECONDS = 60.0
LOAD = r"/images/load$"
AT_REST = ("idle", "ready", "error")


@dataclass(frozen=True)
class Status:
    """What `GET /unlock/status` answered."""

    state: str
    error: str | None
    code: str | None


READY = Status("ready", None, None)


class Caller:
    """Speaks to the loader at `url` over HTTP, wherever it runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def post(self, password: str = PASSWORD) -> tuple[int, dict[str, Any]]:
        """`POST /unlock`: status and body of the answer."""
        return self._call("POST", "/unlock", json.dumps({"email": EMAIL, "password": password}))

    def status(self) -> Status:
        """`GET /unlock/status`."""
        code, body = self._call("GET", "/unlock/status")
        assert code == HTTPStatus.OK
        return Status(body["state"], body["error"], body["code"])

    def document(self) -> dict[str, Any]:
        """All that `GET /unlock/status` answers."""
        return self.get("/unlock/status")

    def unlock(self, password: str = PASSWORD) -> Status:
        """`POST /unlock`, which must be accepted, then the state in which the run came to rest."""
        code, body = self.post(password)
        assert code == HTTPStatus.OK, body
        return self.rest()

    def rest(self) -> Status:
        """The state in which the run comes to rest."""
        return self._reached(lambda status: status.state in AT_REST, "the unlock comes to rest")

    def wait_for(self, state: str) -> None:
        """Waits until the unlock is in `state`, which must not end before something that the test controls."""
        self._reached(lambda status: status.state == state, f"the unlock is {state}")

    def get(self, path: str) -> dict[str, Any]:
        """The body that `GET path` answers."""
        return self._call("GET", path)[1]

    def _reached(self, predicate: Callable[[Status], bool], message: str) -> Status:
        seen: list[Status] = []

        def look() -> bool:
            seen.append(self.status())
            return predicate(seen[-1])

        poll(look, UNLOCK_SECONDS, message)
        return seen[-1]

    def _call(self, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
        with closing(connect(self._url, ANSWER_SECONDS)) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            with connection.getresponse() as response:
                return response.status, json.loads(response.read())


class Operator(Caller):
    """A caller who has the loader before his eyes."""

    def __init__(self, loader: LoaderServer) -> None:
        super().__init__(loader.url)
        self.loader = loader

    def log_messages(self, level: str) -> list[str]:
        """What the loader has logged at `level`."""
        return [line["message"] for line in self.loader.log_lines() if line["level"] == level]


class Rig:
    """A loader on a device of its own, with an engine behind a wire, for all tests of a module.

    The state of its unlock goes on from test to test: a test begins with the state in which the one before came to
    rest, but with no archive, no image and no request noted.
    """

    def __init__(self, device: UnlockDevice, engine: Engine, wire: FaultyWire, **env: str) -> None:
        self.device = device
        self.engine = engine
        self.wire = wire
        self.operator = device.start(wire.host, **env)

    @property
    def loads(self) -> list[RecordedRequest]:
        """The loads that have been sent to the engine."""
        return self.wire.sent("POST", LOAD)

    def unlock(self, archive: Path, password: str = PASSWORD) -> Status:
        """Puts a copy of `archive` in place, and unlocks it."""
        self.device.put(archive)
        return self.operator.unlock(password)

    def clean(self) -> None:
        """Removes what a test has left."""
        self.wire.heal()
        self.operator.rest()
        remove_all_images(self.engine)
        for path in self.device.directory.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.device.remembered.parent.mkdir()


class UnlockDevice:
    """The disk of a device, and the loaders that are started on it."""

    def __init__(self, directory: Path, api: ResourceApiServer, start_loader: Callable[..., LoaderServer]) -> None:
        """`directory` holds an empty `models`."""
        self.directory = directory
        self.archive = directory / "images.enc"
        self.tar = directory / "images.tar"
        self.remembered = directory / "models" / "unlocked-manifest.json"
        self.api = api
        self._start_loader = start_loader

    def put(self, archive: Path) -> None:
        """Puts a copy of `archive` in place, as a provisioning script does: a new file under the same name."""
        new = self.archive.with_name("images.enc.new")
        shutil.copyfile(archive, new)
        new.replace(self.archive)

    def change(self, change: Callable[[bytearray], None]) -> None:
        """Rewrites the archive in place with its bytes changed."""
        data = bytearray(self.archive.read_bytes())
        change(data)
        self.archive.write_bytes(data)

    def start(self, engine_host: str, *gunicorn_args: str, **env: str) -> Operator:
        """Starts a loader that uses the engine at `engine_host`, and expects images of version 1.4."""
        defaults = {"RESOURCE_API_URL": self.api.url, "DOCKER_HOST": engine_host, "API_VERSION": "1.4"}
        return Operator(self._start_loader(*gunicorn_args, **{**defaults, **env}))


def is_sentence(text: str | None) -> bool:
    """Whether `text` is for a person: one line that begins like a sentence, or with a path, and ends with a stop."""
    return text is not None and re.fullmatch(r"[A-Z/].*\.", text) is not None
