"""Secrets of devices: random, long, and recognizable by their form.

A stolen users file gives no chance to guess one of 256 random bits, so a single SHA-256 is enough. A password that a
person has chosen needs a slow hash, and never gets this one.
"""

import hashlib
import hmac
import re
import secrets

_RANDOM_BYTES = 32
_PREFIX = "device-"
_SECRET = re.compile(r"device-[A-Za-z0-9_-]{43}")
_METHOD = "sha256$"


def new_secret() -> str:
    """Return a new secret: "device-" and 256 random bits in 43 characters of base64url."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def is_secret(password: str) -> bool:
    """Return whether `password` has the form of a secret of a device."""
    return _SECRET.fullmatch(password) is not None


def hash_of(secret: str) -> str:
    """Return what is stored of a secret: "sha256$" and 64 hexadecimal digits."""
    return _METHOD + hashlib.sha256(secret.encode()).hexdigest()


def is_hash_of_secret(stored: str) -> bool:
    """Return whether `stored` belongs to the secret of a device and not to a password."""
    return stored.startswith(_METHOD)


def matches(stored: str, secret: str) -> bool:
    """Return whether `stored` is the hash of `secret`, in a time that does not depend on where they differ."""
    return hmac.compare_digest(stored, hash_of(secret))
