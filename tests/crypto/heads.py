"""Valid heads of archives as documents, for tests to change. Every call makes a new one."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from loader.crypto.archive_head import Head
from loader.crypto.json_header import JSON_MAX_SIZE, read_json
from tests.crypto.framing import framed
from tests.crypto.reference_archive import BUILT, CREATED


def digest(name: str) -> str:
    """Return a digest that no other name has."""
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def blob(name: str, size: int = 300) -> dict[str, Any]:
    """Return the entry of a blob whose digest is that of `name`, with codec none."""
    packed = {"sha256": digest(name).removeprefix("sha256:"), "size": size}
    stored = digest(f"{name}, sealed").removeprefix("sha256:")
    return {"digest": digest(name), "size": size, "codec": "none", "packed": packed, "stored": stored}


def image(name: str, layers: list[str]) -> dict[str, Any]:
    """Return the entry of the image `name` of named layers, in its full form."""
    return {
        "reference": f"docker.io/azaion/{name}:1.4.2",
        "platform": "linux/arm64",
        "created": BUILT,
        "manifest": digest(f"manifest of {name}"),
        "config": digest(f"configuration of {name}"),
        "layers": [digest(layer) for layer in layers],
    }


def document() -> dict[str, Any]:
    """Return a head of two images that share a layer, the first of them under two names, and with one gzip blob."""
    annotator, detector = image("annotator", ["base", "a", "base"]), image("detector", ["base", "b"])
    again = {"reference": "localhost:5000/annotator:latest", "manifest": annotator["manifest"]}
    names = ["manifest of annotator", "configuration of annotator", "base", "a"]
    packed = {"sha256": digest("packed b").removeprefix("sha256:"), "size": 100}
    names += ["manifest of detector", "configuration of detector"]
    return {
        "format": 2,
        "release": {"version": "1.4.2", "serial": 7, "created": CREATED},
        "root_id": "0a" * 16,
        "images": [annotator, again, detector],
        "blobs": [*map(blob, names), blob("b") | {"codec": "gzip", "packed": packed}],
    }


def head_of_one(layers: int) -> dict[str, Any]:
    """Return a head of one image of so many layers; its blobs are then `layers + 2`."""
    names = [f"layer {number}" for number in range(layers)]
    described = ["manifest of app", "configuration of app", *names]
    return document() | {"images": [image("app", names)], "blobs": [blob(name) for name in described]}


def parse(described: dict[str, Any] | bytes) -> Head:
    """Parse a head as it stands in a file."""
    return Head.parse(read_json(io.BytesIO(framed(b"", described)).read, JSON_MAX_SIZE)[0])
