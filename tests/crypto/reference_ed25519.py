"""Ed25519 once more, from RFC 8032, section 5.1, in affine coordinates: slow, and for tests only."""

from __future__ import annotations

import hashlib

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493
Point = tuple[int, int]
BASE: Point = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)


def public_key(seed: bytes) -> bytes:
    """Return the public key of the private key `seed`, 32 bytes."""
    return _encoded(_multiple(BASE, _secret(seed)[0]))


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the signature of 64 bytes."""
    scalar, prefix = _secret(seed)
    nonce = _number(prefix + message) % ORDER
    point = _encoded(_multiple(BASE, nonce))
    challenge = _number(point + public_key(seed) + message)
    return point + ((nonce + challenge * scalar) % ORDER).to_bytes(32, "little")


def _secret(seed: bytes) -> tuple[int, bytes]:
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    return (scalar & ((1 << 254) - 8)) | (1 << 254), digest[32:]


def _number(data: bytes) -> int:
    return int.from_bytes(hashlib.sha512(data).digest(), "little")


def _add(first: Point, second: Point) -> Point:
    (x1, y1), (x2, y2) = first, second
    product = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def _multiple(point: Point, count: int) -> Point:
    found: Point = (0, 1)
    while count:
        if count & 1:
            found = _add(found, point)
        point, count = _add(point, point), count >> 1
    return found


def _encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")
