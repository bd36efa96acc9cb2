"""A fake of a Docker engine for faults: its responses are ones that no real engine gives on demand."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.fault_server import InThread

API_VERSION = "1.41"

# Responds to `POST /images/load` after its body was read.
Load = Callable[["FakeCall"], None]


class FakeCall(BaseHTTPRequestHandler):
    """One request to the fake."""

    server: FakeEngine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Respond to queries for the version, for the description of the engine, and for any image."""
        if self.path.endswith("/version"):
            self.respond(200, {"ApiVersion": API_VERSION, "MinAPIVersion": "1.12", **self.server.version})
        elif self.path.endswith("/libpod/info"):
            self.respond(403, {"message": "forbidden"})
        elif self.path.endswith("/info"):
            self.respond(*self.server.info)
        else:
            self.respond(*self.server.image)

    def do_POST(self) -> None:
        """Read the body of a load, and respond as the test wants."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.load(self)

    def do_DELETE(self) -> None:
        """Have nothing that could be removed."""
        self.respond(404, {"message": "no such image"})

    def respond(self, status: int, document: Any) -> None:
        """Send a whole response."""
        self.respond_bytes(status, json.dumps(document).encode())

    def respond_bytes(self, status: int, body: bytes) -> None:
        """Send a whole response that need not be JSON."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing, because standard error belongs to the tests."""


class FakeEngine(InThread, socketserver.ThreadingUnixStreamServer):
    """A fake engine on the unix socket `path`. `host` is the value for DOCKER_HOST.

    load: responds to loads.
    version: what the engine says about itself when it is asked for its version, besides that of its API.
    info, image: status and body of the response to a query for the description of the engine, and for any image.
    """

    daemon_threads = True

    def __init__(self, path: Path, load: Load) -> None:
        super().__init__(str(path), FakeCall)
        self.host = f"unix://{path}"
        self.load = load
        self.version: dict[str, Any] = {}
        self.info: tuple[int, dict[str, Any]] = (403, {"message": "forbidden"})
        self.image: tuple[int, dict[str, Any]] = (404, {"message": "no such image"})
