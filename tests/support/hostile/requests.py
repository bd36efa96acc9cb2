"""The raw form of a request, and the parts that the classes of attack share."""

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
# Where an attack would lead if nothing of it were wrong.
FOLDER, NAME = "hostile/allowed", "allowed.bin"
FORM = form(part("folder", FOLDER.encode()), part("file", b"content", filename="x"))
LOAD = json.dumps({"filename": NAME, "folder": FOLDER}).encode()


@dataclass(frozen=True)
class Attack:
    """`raw` goes out as it is; one that is `framed` as HTTP wants it may share a connection with others."""

    kind: str
    raw: bytes
    framed: bool = False


Attacks: TypeAlias = Iterator[Attack]


def seeded(kind: str) -> random.Random:
    """Chance for one class of attack, the same at every run."""
    return random.Random(f"hostile {kind}")  # noqa: S311  # equal on every run is what is wanted


def head(method: bytes, path: bytes, *lines: bytes) -> bytes:
    """The head of a request to a host name that the loader trusts; `lines` end in CR LF themselves."""
    return method + b" " + path + b" HTTP/1.1\r\n" + HOST + b"".join(lines) + b"\r\n"


def with_length(method: bytes, path: bytes, body: bytes, *lines: bytes) -> bytes:
    """A whole request whose length is right."""
    return head(method, path, *lines, b"Content-Length: %d\r\n" % len(body)) + body
