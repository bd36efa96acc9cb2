"""Publishers with signing keys of their own, and the file that names them to a device."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from loader.crypto.signatures import SigningKey
from loader.publisher_keys import PublisherKey, PublisherKeys

PKCS8_OF_ED25519 = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410, section 10.3


def pem_of(seed: bytes) -> bytes:
    """Return the private key of 32 bytes as PKCS #8 in the format PEM."""
    body = base64.b64encode(PKCS8_OF_ED25519 + seed)
    return b"-----BEGIN PRIVATE KEY-----\n" + body + b"\n-----END PRIVATE KEY-----\n"


ANNA, BEN, EVE = (SigningKey.parse(pem_of(bytes([number]) * 32)) for number in (1, 2, 3))
TRUSTED = PublisherKeys((PublisherKey("anna", ANNA.public), PublisherKey("ben", BEN.public)))


def write_publishers(path: Path, trusted: PublisherKeys = TRUSTED) -> Path:
    """Write the file that PUBLISHER_KEYS names, and return its path."""
    path.write_text("".join(f"{key}\n" for key in trusted.keys))
    return path


def write_key(path: Path, key: SigningKey) -> Path:
    """Write the file of a signing key, which only its owner can read, and return its path."""
    path.touch(mode=0o600)
    path.write_bytes(key.to_pem())
    return path


def numbered_keys(count: int) -> Sequence[SigningKey]:
    """Return `count` further keys."""
    return [SigningKey.parse(pem_of(bytes([100 + number]) * 32)) for number in range(count)]
