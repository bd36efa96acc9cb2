"""A second implementation of models in two objects, from docs/formats.md; it shares no code with the loader."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.crypto import reference_ed25519
from tests.crypto.framing import framed
from tests.crypto.reference import ReferenceCipher
from tests.crypto.reference_archive import piece_digest

KEY = bytes(range(32))
OBJECT = "0123456789abcdef" * 2
SERIAL = 1772366400000
CREATED = "2026-03-01T12:00:00Z"
HEAD = 65_536


def model_document(size: int, big: bytes, key: bytes = KEY) -> dict[str, Any]:
    """Return the JSON of a header; every call makes a new one."""
    described = {"size": len(big), "digest": piece_digest(big), "object": OBJECT} if big else None
    key_text = base64.b64encode(key).decode()
    return {"key": key_text, "size": size, "serial": SERIAL, "created": CREATED, "big": described}


def seals_document(*signatures: tuple[bytes, bytes]) -> dict[str, Any]:
    """Return the JSON of seals with these public keys and signatures."""
    pairs = [(base64.b64encode(key).decode(), base64.b64encode(value).decode()) for key, value in signatures]
    return {"signatures": [{"key": key, "signature": value} for key, value in pairs]}


def small_object(document: dict[str, Any] | bytes, head: bytes, seals: dict[str, Any] | bytes | None = None) -> bytes:
    """Return a small object of these parts, whatever they are; without `seals` nobody has signed it."""
    return framed(b"AZSMALL2", document) + framed(b"", seals_document() if seals is None else seals) + head


@dataclass(frozen=True)
class ReferenceModel:
    """A sealed model: the length and JSON of its header, its head, and its big object, which may be empty."""

    path: str
    header: bytes
    head: bytes
    big: bytes

    @classmethod
    def seal(cls, path: str, plaintext: bytes, key: bytes = KEY) -> ReferenceModel:
        """Seal `plaintext` for the place `path`, which is folder/filename."""
        ciphertext = ReferenceCipher(key, path.encode()).seal(plaintext)
        head, big = ciphertext[:HEAD], ciphertext[HEAD:]
        return cls(path, framed(b"", model_document(len(plaintext), big, key)), head, big)

    def signed(self, path: str | None = None) -> bytes:
        """Return what a signature covers, at this place or at another one."""
        name = (self.path if path is None else path).encode()
        return b"azaion-loader/2 model\0" + len(name).to_bytes(2, "big") + name + self.header + self.head

    def small(self, seeds: Sequence[bytes] = (), path: str | None = None) -> bytes:
        """Return the small object with the signatures of these private keys, made for its place or another one."""
        message = self.signed(path)
        pairs = [(reference_ed25519.public_key(seed), reference_ed25519.sign(seed, message)) for seed in seeds]
        return b"AZSMALL2" + self.header + framed(b"", seals_document(*pairs)) + self.head
