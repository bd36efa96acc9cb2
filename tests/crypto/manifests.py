"""A valid manifest, as a document and as an object, for tests to change."""

from __future__ import annotations

import json
from typing import Any

from loader.crypto.archive import Manifest, ManifestImage
from tests.crypto.reference import hkdf_sha256

FRAGMENT = bytes(range(64, 96))
KEY_CHECK = hkdf_sha256(FRAGMENT, b"", b"azaion-loader key check v1", 8).hex()
CREATED = "2026-03-01T12:00:00+00:00"
IMAGES = (
    ManifestImage("azaion/annotator:1.4.2", "sha256:" + "0a" * 32, ("sha256:" + "1b" * 32,), "2026-02-28T08:00:00.5Z"),
    ManifestImage("localhost:5000/azaion/detector:1.4.2", "sha256:" + "2c" * 32, (), ""),
)


def manifest(tar_size: int, fragment: bytes = FRAGMENT) -> Manifest:
    """Return a manifest of two images in a tar of `tar_size` bytes, for `fragment`."""
    check = hkdf_sha256(fragment, b"", b"azaion-loader key check v1", 8).hex()
    return Manifest(IMAGES, tar_size, check, CREATED)


def document(tar_size: int = 5) -> dict[str, Any]:
    """The JSON form of a manifest, spelled out; every call makes a new one."""
    return {
        "images": [
            {
                "reference": "azaion/annotator:1.4.2",
                "id": "sha256:" + "0a" * 32,
                "layers": ["sha256:" + "1b" * 32],
                "created": "2026-02-28T08:00:00.5Z",
            },
            {
                "reference": "localhost:5000/azaion/detector:1.4.2",
                "id": "sha256:" + "2c" * 32,
                "layers": [],
                "created": "",
            },
        ],
        "tar_size": tar_size,
        "key_check": KEY_CHECK,
        "created": CREATED,
    }


def framed(magic: bytes, body: bytes | dict[str, Any], announced: int | None = None) -> bytes:
    """`magic`, a length and a body, which need not agree."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return magic + (len(raw) if announced is None else announced).to_bytes(4, "big") + raw
