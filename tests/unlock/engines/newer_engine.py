"""A stand-in for Docker 27.3 to 29 with the containerd store, which no package of Debian has.

It sends exactly what was observed of these engines when they cannot unpack an image: a load is answered with 200, the
text "Loaded image: ..." and then the error as plain text; the name moves to the image that cannot run, and an old
image without another name is gone. `GET /images/{name}/json?manifests=1` shows `"Available": true` and
`"Unpacked": 0`, and a container cannot be made; the words of that refusal are those of Docker 26.1. It keeps images in
memory and runs nothing.
"""

from __future__ import annotations

import json
import re
import socketserver
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from loader.references import full_reference
from tests.support.fault_server import InThread
from tests.unlock.engines.newer_store import Store, UnpackFault, inspected, read_layout

API_VERSION = "1.48"
INFO = {
    "Driver": "overlayfs",
    "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
    "DockerRootDir": "/nonexistent/docker",
}
VERSION = {"ApiVersion": API_VERSION, "MinAPIVersion": "1.24", "Version": "28.0.4", "Os": "linux", "Arch": "amd64"}
IMAGE = re.compile(r"/images/(.+)/(json|tag)")


class NewerCall(BaseHTTPRequestHandler):
    """One request to the stand-in."""

    server: NewerEngine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Respond to a question about the engine or an image."""
        path, query = self._asked()
        if path == "/images/json":
            self._respond(200, [inspected(self.server.store, image) for image in self.server.store.images.values()])
        elif match := IMAGE.fullmatch(path):
            image = self.server.store.find(match[1])
            if image is None:
                self._respond(404, {"message": f"No such image: {match[1]}"})
            else:
                self._respond(
                    200, inspected(self.server.store, image, manifests=query.get("manifests") in ("1", "true"))
                )
        else:
            known: dict[str, Any] = {"/version": VERSION, "/info": INFO, "/_ping": "OK", "/containers/json": []}
            self._respond(200 if path in known else 404, known.get(path, {"message": "page not found"}))

    def do_POST(self) -> None:
        """Load an image, name one, or make a container."""
        path, query = self._asked()
        body = self._body()
        store = self.server.store
        if path == "/images/load" and body:
            self._load(body)
        elif path == "/containers/create":
            image = store.find(json.loads(body)["Image"])
            if image is None or not image.unpacked:
                self._respond(404, {"message": "failed to extract layer: content digest: not found"})
            else:
                id_ = f"{len(self.server.made):064x}"
                self.server.made.append(id_)
                store.containers.add(id_)
                self._respond(201, {"Id": id_, "Warnings": []})
        elif (match := IMAGE.fullmatch(path)) and (image := store.find(match[1])):
            store.name(full_reference(f"{query['repo']}:{query['tag']}"), image.id)
            self._respond(201, None)
        else:
            self._respond(404, {"message": f"No such image: {path}"})

    def do_DELETE(self) -> None:
        """Remove a name, an image by its ID, or a container."""
        path, _ = self._asked()
        kind, _, what = path.removeprefix("/").partition("/")
        store = self.server.store
        if kind == "containers" and what in store.containers:
            store.containers.remove(what)
            self._respond(204, None)
        elif kind == "images" and (image := store.find(what)):
            gone = [name for name, id_ in store.names.items() if id_ == image.id and what == image.id]
            for name in gone or [full_reference(what)]:
                del store.names[name]
            store.drop_unnamed()
            self._respond(200, [{"Untagged": what}])
        else:
            self._respond(404, {"message": f"No such {kind}: {what}"})

    def _load(self, body: bytes) -> None:
        reference, image = read_layout(body)
        fault = self.server.faults.get(reference)
        if fault is not None:
            image = replace(image, unpacked=0, available=fault.available)
        self.server.store.images[image.id] = image
        self.server.store.name(reference, image.id)
        said = [f"Loaded image: {reference}\n", *([fault.text] if fault and fault.text else [])]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for text in said:
            line = json.dumps({"stream": text}).encode() + b"\r\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

    def _asked(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        path = re.sub(r"^/v1\.\d+", "", unquote(url.path))
        return path, {name: values[0] for name, values in parse_qs(url.query).items()}

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _respond(self, status: int, document: Any) -> None:
        self._respond_bytes(status, b"" if document is None else json.dumps(document).encode())

    def _respond_bytes(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing, because standard error belongs to the tests."""


class NewerEngine(InThread, socketserver.ThreadingUnixStreamServer):
    """The stand-in on the unix socket `path`. `host` is the value for DOCKER_HOST.

    faults: what happens to the loads of some references.
    made: every container that was ever made.
    """

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), NewerCall)
        self.host = f"unix://{path}"
        self.store = Store()
        self.faults: dict[str, UnpackFault] = {}
        self.made: list[str] = []
