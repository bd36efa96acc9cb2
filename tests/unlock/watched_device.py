"""A device whose loader is watched: what it asks of API and engine, what it sends, and what it leaves on the disk."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from loader.references import is_full_reference
from tests.support.engines import Engine
from tests.support.faulty_api import FaultyApi
from tests.support.handmade_image import FRAGMENT
from tests.support.http_framing import RecordedRequest
from tests.support.left_files import left
from tests.support.loader_server import LoaderServer
from tests.support.recording_proxy import Line, RecordingProxy
from tests.support.unlocking import LOAD, Operator, Status

MODES = ("tar", "stream")
LOOK_UP = re.compile(r"/images/(.+)/json")
DESCRIPTION = re.compile(r"/(_ping|version|info)")


class AnsweringProxy(RecordingProxy):
    """Keeps the bodies of loads. Responds to chosen requests in the place of the engine, which is a real one."""

    def __init__(self, listen: Path, upstream: Path) -> None:
        super().__init__(listen, upstream)
        self._answers: list[tuple[str, int, bytes]] = []

    def answer(self, path_pattern: str, status: int, document: object, *, body_size: int = 0) -> None:
        """Respond once to a request whose path with its query matches (re.search) and whose body has `body_size` bytes.

        The engine never gets the end of that request.
        """
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} Status\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        self._answers.append((path_pattern, body_size, f"{head}Content-Type: application/json\r\n\r\n".encode() + body))

    def note(self, line: Line, request: RecordedRequest) -> None:
        """Add a request, and keep the body of a load."""
        if re.search(LOAD, request.path.partition("?")[0]):
            request.body = bytearray()
        super().note(line, request)

    def before_upload(self, line: Line) -> None:
        """Respond if the request on `line` is one of those that were chosen."""
        request = line.request
        if request is None or request.body_bytes < request.length:
            return
        for answer in list(self._answers):
            pattern, body_size, response = answer
            if request.length == body_size and re.search(pattern, unquote(request.path)):
                self._answers.remove(answer)
                line.client.sendall(response)
                raise ConnectionAbortedError("the request was answered on the way")


class WatchedDevice:
    """A running loader with its own directory, and records of what it asked and sent since the last unlock started."""

    def __init__(self, directory: Path, api: FaultyApi, wire: AnsweringProxy, operator: Operator, mode: str) -> None:
        self.mode = mode
        self.directory = directory
        self.archive = directory / "images.enc"
        self.api = api
        self.wire = wire
        self.operator = operator
        self._api_requests_before = 0
        self._kept_before: dict[str, bytes] = {}

    def unlock(self, archive: bytes, **fields: str) -> Status:
        """Put `archive` in place as a new file, and unlock it with further `fields` of the request."""
        self._put(archive)
        self.wire.forget()
        self._kept_before = self._kept()
        self._api_requests_before = len(self.api.requests())
        return self.operator.unlock(**fields)

    def plan(self, archive: bytes) -> dict[str, Any]:
        """Put `archive` in place as a new file, and return the plan of its unlock."""
        self._put(archive)
        return self.operator.get("/unlock/plan")

    @property
    def api_paths(self) -> list[str]:
        """The paths of the requests to the API."""
        return [request.path for request in self.api.requests()[self._api_requests_before :]]

    @property
    def engine_paths(self) -> list[str]:
        """The paths of the requests to the engine, without the version of its API, and with any method but GET."""
        return [
            ("" if request.method == "GET" else f"{request.method} ")
            + re.sub(r"^/v1\.\d+", "", unquote(request.path.partition("?")[0]))
            for request in self.wire.requests
        ]

    @property
    def loads(self) -> list[RecordedRequest]:
        """The loads that the engine was sent."""
        return self.wire.sent("POST", LOAD)

    @property
    def sent_blobs(self) -> list[list[str]]:
        """The digests of the blobs in the layout of each load."""
        return [blobs_in(load) for load in self.loads]

    def assert_refused(self, archive: bytes, codes: set[str], case: object) -> None:
        """Require that an unlock of `archive` ends with one of `codes`, and leaves no trace."""
        status = self.unlock(archive)
        assert (status.state, status.code in codes) == ("error", True), (case, status)
        self.assert_untouched()

    def assert_untouched(self) -> None:
        """Require that the engine was only looked at, by well-formed names, and that the disk has only the archive.

        What the unlock has found beside the cache must be there as it was.
        """
        for path in self.engine_paths:
            look_up = LOOK_UP.fullmatch(path)
            assert DESCRIPTION.fullmatch(path) or (look_up and is_full_reference(look_up[1])), path
        assert self._kept() == self._kept_before
        self.assert_no_plaintext()

    def assert_no_plaintext(self) -> None:
        """Require that the disk has no tar."""
        assert sorted(path.name for path in self.directory.iterdir()) == ["images.enc", "models"]

    def _kept(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in left((self.directory / "models").iterdir())}

    def _put(self, archive: bytes) -> None:
        new = self.archive.with_name("new")
        new.write_bytes(archive)
        new.replace(self.archive)


@contextmanager
def watched_device(directory: Path, engine: Engine, mode: str, **settings: str) -> Iterator[WatchedDevice]:
    """Yield a device in front of a real engine.

    Its API is a fake that accepts each login at once, because a real one takes half a second to check a password.
    """
    device = directory / "device"
    (device / "models").mkdir(parents=True)
    with FaultyApi() as api, AnsweringProxy(directory / "wire.sock", engine.socket) as wire:
        api.fragment = FRAGMENT
        env = {
            "IMAGES_PATH": str(device / "images.enc"),
            "MODEL_CACHE_DIR": str(device / "models"),
            "RESOURCE_API_URL": api.url,
            "DOCKER_HOST": wire.host,
            "API_VERSION": "1.4",
            "UNLOCK_MODE": mode,
            **settings,
        }
        with LoaderServer(directory, env) as loader:
            yield WatchedDevice(device, api, wire, Operator(loader), mode)


def blobs_in(load: RecordedRequest) -> list[str]:
    """Return the digests of the blobs in the layout that was sent."""
    assert load.body is not None
    with tarfile.open(fileobj=io.BytesIO(load.body)) as tar:
        return [f"sha256:{Path(name).name}" for name in tar.getnames() if name.startswith("blobs/sha256/")]
