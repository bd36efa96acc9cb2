"""Which platform an engine is asked for. The engine is a fake, because CI has none with version 1.48 of the API."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from loader.docker_engine import DockerEngine
from loader.errors import EngineRejected
from tests.support.fault_server import InThread

NAME = "app:1"


class SavingCall(BaseHTTPRequestHandler):
    """One request: for the version, or to save an image."""

    server: SavingEngine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Respond with the version, with some bytes, or with a refusal."""
        if self.path.endswith("/version"):
            self._respond(200, json.dumps({"ApiVersion": self.server.version, "MinAPIVersion": "1.12"}).encode())
        elif self.server.refuses:
            self._respond(404, b'{"message": "no suitable export target\\nfound"}')
        else:
            self.server.asked = parse_qs(urlsplit(self.path).query)
            self._respond(200, b"saved")

    def _respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing, because standard error belongs to the tests."""


class SavingEngine(InThread, socketserver.ThreadingUnixStreamServer):
    """A fake engine of any version of the API. `asked` is the query of the last save."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), SavingCall)
        self.host = f"unix://{path}"
        self.version = "1.48"
        self.refuses = False
        self.asked: dict[str, list[str]] = {}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SavingEngine]:
    with SavingEngine(tmp_path / "fake.sock") as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        yield engine


@pytest.mark.parametrize(
    ("platform", "asked"),
    [
        ("linux/arm64", {"os": "linux", "architecture": "arm64"}),
        ("linux/arm/v7", {"os": "linux", "architecture": "arm", "variant": "v7"}),
    ],
)
def test_a_new_engine_is_asked_for_the_platform(fake: SavingEngine, platform: str, asked: dict[str, str]) -> None:
    assert b"".join(DockerEngine(5).save([NAME], platform)) == b"saved"
    assert json.loads(fake.asked["platform"][0]) == asked
    assert fake.asked["names"] == [NAME]


@pytest.mark.parametrize(("version", "platform"), [("1.47", "linux/arm64"), ("1.41", "linux/arm64"), ("1.48", None)])
def test_an_old_engine_and_a_default_are_not(fake: SavingEngine, version: str, platform: str | None) -> None:
    fake.version = version
    assert b"".join(DockerEngine(5).save([NAME], platform)) == b"saved"
    assert fake.asked == {"names": [NAME]}


def test_the_reason_of_a_refusal_is_told(fake: SavingEngine) -> None:
    fake.refuses = True
    with pytest.raises(EngineRejected, match="could not save the images: no suitable export target found"):
        list(DockerEngine(5).save([NAME]))
