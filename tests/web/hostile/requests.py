"""The raw form of a request, and the constants and functions that the classes of attack share."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tests.support.http_calls import BOUNDARY, form, part

HOST = b"Host: localhost\r\n"
JSON_TYPE = b"Content-Type: application/json\r\n"
FORM_TYPE = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n".encode()
# The resource that an attack would load or upload if the rest of its request were valid.
FOLDER, NAME = "hostile/allowed", "allowed.bin"
FORM = form(part("folder", FOLDER.encode()), part("file", b"content", filename="x"))
LOAD = json.dumps({"filename": NAME, "folder": FOLDER}).encode()


@dataclass(frozen=True)
class Attack:
    """A hostile request of the class `kind`, whose bytes `raw` are sent unchanged.

    `framed` says that the request ends where HTTP expects it, so it may share a connection with others.
    """

    kind: str
    raw: bytes
    framed: bool = False


Attacks: TypeAlias = Iterator[Attack]


def seeded(kind: str) -> random.Random:
    """Return a random generator for the class `kind` of attack, the same at every run."""
    return random.Random(f"hostile {kind}")  # noqa: S311  # each run must make the same requests


def head(method: bytes, path: bytes, *lines: bytes) -> bytes:
    """Return the head of a request to a host name that the loader trusts; each of `lines` must end in CR LF."""
    return method + b" " + path + b" HTTP/1.1\r\n" + HOST + b"".join(lines) + b"\r\n"


def with_length(method: bytes, path: bytes, body: bytes, *lines: bytes) -> bytes:
    """Return a whole request with the right Content-Length."""
    return head(method, path, *lines, b"Content-Length: %d\r\n" % len(body)) + body
