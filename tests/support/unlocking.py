"""Helpers of the unlock tests: a caller of the loader, and the device that it unlocks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.support.archives import remove_all_images
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.http_calls import call, post_json
from tests.support.http_framing import RecordedRequest
from tests.support.inventory import UnlockComparison
from tests.support.loader_server import LoaderServer
from tests.support.processes import poll
from tests.support.resource_api_server import ResourceApiServer

EMAIL = "operator@example.com"
PASSWORD = "correct horse battery staple"
UNLOCK_SECONDS = 60.0
LOAD = r"/images/load$"
AT_REST = ("idle", "ready", "error")


@dataclass(frozen=True)
class Status:
    """The state, error and code in a response of `GET /unlock/status`."""

    state: str
    error: str | None
    code: str | None


READY = Status("ready", None, None)


class Caller:
    """Calls the loader at `url` over HTTP.

    An unlock that ends in `error` must leave the engine behind `engine_host` as it was; see `UnlockComparison`.
    """

    def __init__(self, url: str, engine_host: str = "") -> None:
        self._url = url
        self._comparison = UnlockComparison(engine_host)

    def let_engine_change(self, reason: str) -> None:
        """Do not compare the engine before and after the next unlock, because of `reason`."""
        self._comparison.leave_out(reason)

    def post(self, password: str = PASSWORD, **fields: str) -> tuple[int, dict[str, Any]]:
        """Send `POST /unlock` with further `fields`; return the status and the body of the response."""
        if self.status().state in AT_REST:
            self._comparison.start()
        reply = post_json(self._url, "/unlock", {"email": EMAIL, "password": password, **fields})
        return reply.status, json.loads(reply.body)

    def posted(self, password: str = PASSWORD, **fields: str) -> str:
        """Send `POST /unlock`, which must be accepted, and return the state in the response."""
        code, body = self.post(password, **fields)
        assert code == HTTPStatus.OK, body
        return str(body["state"])

    def status(self) -> Status:
        """Send `GET /unlock/status`."""
        body = self.document()
        return Status(body["state"], body["error"], body["code"])

    def document(self) -> dict[str, Any]:
        """Return the whole response of `GET /unlock/status`."""
        return self.get("/unlock/status")

    def unlock(self, password: str = PASSWORD, **fields: str) -> Status:
        """Send `POST /unlock`, which must be accepted, and return the status at the end of the run."""
        self.posted(password, **fields)
        return self.rest()

    def rest(self) -> Status:
        """Wait until no run is active, and return the status. Compares the engine if the run has failed."""
        status = self._reached(lambda status: status.state in AT_REST, "the unlock comes to rest")
        self._comparison.end(status.error if status.state == "error" else None)
        return status

    def wait_for(self, state: str) -> None:
        """Wait until the unlock is in `state`. The test must keep that state from ending meanwhile."""
        self._reached(lambda status: status.state == state, f"the unlock is in {state}")

    def get(self, path: str) -> dict[str, Any]:
        """Send `GET path`, which must succeed, and return the body of the response."""
        reply = call(self._url, "GET", path)
        assert reply.status == HTTPStatus.OK
        return dict(reply.json())

    def _reached(self, predicate: Callable[[Status], bool], message: str) -> Status:
        seen: list[Status] = []

        def look() -> bool:
            seen.append(self.status())
            return predicate(seen[-1])

        poll(look, UNLOCK_SECONDS, message)
        return seen[-1]


class Operator(Caller):
    """A caller that can also read the log of the loader."""

    def __init__(self, loader: LoaderServer) -> None:
        super().__init__(loader.url, loader.engine_host)
        self.loader = loader

    def log_messages(self, level: str) -> list[str]:
        """Return the messages that the loader has logged at `level`."""
        return [line["message"] for line in self.loader.log_lines() if line["level"] == level]


class Rig:
    """A loader on its own device, with an engine behind a wire, for all tests of a module.

    A test starts with the unlock state that the test before it has left, but without an archive, an image or a recorded
    request.
    """

    def __init__(self, device: UnlockDevice, engine: Engine, wire: FaultyWire, **env: str) -> None:
        self.device = device
        self.engine = engine
        self.wire = wire
        self.operator = device.start(wire.host, **env)

    @property
    def loads(self) -> list[RecordedRequest]:
        """The loads that the loader has sent to the engine."""
        return self.wire.sent("POST", LOAD)

    def unlock(self, archive: Path, password: str = PASSWORD) -> Status:
        """Put a copy of `archive` in place, and unlock it."""
        self.device.put(archive)
        return self.operator.unlock(password)

    def unlock_until_held(self, archive: Path, after: int) -> None:
        """Start an unlock of a copy of `archive`, and return while its first load waits after so many bytes."""
        self.wire.hold_upload(after=after)
        self.device.put(archive)
        self.operator.post()
        self.wire.wait_until_held()

    def clean(self) -> None:
        """Remove what a test has left."""
        self.wire.heal()
        self.operator.rest()
        remove_all_images(self.engine)
        for path in self.device.directory.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.device.remembered.parent.mkdir()


class UnlockDevice:
    """The directory of a device, on which a test starts loaders."""

    def __init__(self, directory: Path, api: ResourceApiServer, start_loader: Callable[..., LoaderServer]) -> None:
        """`directory` must hold an empty directory `models`."""
        self.directory = directory
        self.archive = directory / "images.enc"
        self.tar = directory / "images.tar"
        self.remembered = directory / "models" / "unlocked-manifest.json"
        self.mark = directory / "models" / "release-mark.json"
        self.journal = directory / "models" / "unlock-journal.json"
        self.api = api
        self._start_loader = start_loader

    def put(self, archive: Path) -> None:
        """Put a copy of `archive` in place as a new file, as a provisioning script does."""
        new = self.archive.with_name("images.enc.new")
        shutil.copyfile(archive, new)
        new.replace(self.archive)

    def change(self, change: Callable[[bytearray], None]) -> None:
        """Change the bytes of the archive in place."""
        data = bytearray(self.archive.read_bytes())
        change(data)
        self.archive.write_bytes(data)

    def start(self, engine_host: str, *gunicorn_args: str, **env: str) -> Operator:
        """Start a loader that uses the engine at `engine_host` and expects images of version 1.4."""
        defaults = {"RESOURCE_API_URL": self.api.url, "DOCKER_HOST": engine_host, "API_VERSION": "1.4"}
        return Operator(self._start_loader(*gunicorn_args, **{**defaults, **env}))
