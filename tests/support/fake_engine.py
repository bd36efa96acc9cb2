"""A fake of a Docker engine for faults: its responses are ones that no real engine gives on demand."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.fault_server import READ_SIZE, InThread

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
            self.respond(200, {"ApiVersion": API_VERSION, "MinAPIVersion": "1.12", "Version": "0"})
        elif self.path.endswith("/info"):
            self.respond(*self.server.info)
        else:
            self.respond(*self.server.image)

    def do_POST(self) -> None:
        """Read the body of a load, and respond as the test wants."""
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, READ_SIZE)))
        self.server.load(self)

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

    def respond_stream(self, *messages: Any) -> None:
        """Send each message as its own chunk, as a real engine does."""
        self.start_stream()
        for message in messages:
            self.send_message(message)
        self.end_stream()

    def start_stream(self) -> None:
        """Send the head of a response that consists of messages."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_message(self, message: Any) -> None:
        """Send one message."""
        self._send_chunk(json.dumps(message).encode() + b"\r\n")

    def end_stream(self) -> None:
        """End the response properly."""
        self.wfile.write(b"0\r\n\r\n")

    def respond_half(self, body: bytes) -> None:
        """Send a valid head and `body` as the first chunk, then cut the connection."""
        self.start_stream()
        self._send_chunk(body)
        self.close_connection = True

    def _send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *_: object) -> None:
        """Log nothing, because standard error belongs to the tests."""


class FakeEngine(InThread, socketserver.ThreadingUnixStreamServer):
    """A fake engine on the unix socket `path`. `host` is the value for DOCKER_HOST.

    load: responds to loads.
    info, image: status and body of the response to a query for the description of the engine, and for any image.
    """

    daemon_threads = True

    def __init__(self, path: Path, load: Load) -> None:
        super().__init__(str(path), FakeCall)
        self.host = f"unix://{path}"
        self.load = load
        self.info: tuple[int, dict[str, Any]] = (403, {"message": "forbidden"})
        self.image: tuple[int, dict[str, Any]] = (404, {"message": "no such image"})
