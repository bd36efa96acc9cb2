"""Ed25519 signatures of releases and models (RFC 8032, pure Ed25519), and the private keys that make them.

A signature of a release covers `azaion-loader/2 release\\0` | uint32 BE H | head. The seals are no part of it, so it is
valid under any other key fragment, and in a thin archive. What one of a model covers, `model_parts` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

from loader.crypto.json_header import Signature
from loader.publisher_keys import PublisherKey, PublisherKeys, require_sound

PEM_START = b"-----BEGIN PRIVATE KEY-----"


class Signable(Protocol):
    """A release or a model. `signed` are the bytes that a signature of it covers."""

    @property
    def signed(self) -> bytes: ...


class SigningKey:
    """A private key of a publisher. `public` is the raw public key of 32 bytes."""

    def __init__(self, key: ECC.EccKey) -> None:
        self._key = key
        self.public: bytes = key.public_key().export_key(format="raw")

    @classmethod
    def new(cls) -> SigningKey:
        """Return a random key."""
        return cls(ECC.generate(curve="ed25519"))

    @classmethod
    def parse(cls, pem: bytes) -> SigningKey:
        """Parse PKCS #8 in the format PEM without a passphrase (RFC 8410), as of OpenSSL. Raises ValueError."""
        if not pem.startswith(PEM_START):
            raise ValueError("it is no private key in the format PEM without a passphrase")
        try:
            key = ECC.import_key(pem.decode("ascii"))
        except (ValueError, IndexError, TypeError) as exc:
            raise ValueError("it is no Ed25519 key") from exc
        if key.curve != "Ed25519":
            raise ValueError("it is no Ed25519 key")
        return cls(key)

    def to_pem(self) -> bytes:
        """Return the key as `parse` takes it."""
        return self._key.export_key(format="PEM").encode() + b"\n"

    def sign(self, what: Signable) -> Signature:
        """Return the signature. The same key and bytes always have the same signature."""
        return Signature(self.public, eddsa.new(self._key, "rfc8032").sign(what.signed))


def is_valid(signature: Signature, what: Signable) -> bool:
    """Return whether the owner of the signature's key has signed this. Does not say whether that key is trusted."""
    try:
        # Crypto accepts keys of small order, under which everybody can sign.
        require_sound(signature.key)
        key = eddsa.import_public_key(signature.key)
        eddsa.new(key, "rfc8032").verify(what.signed, signature.signature)
    except ValueError:
        return False
    return True


def find_signers(what: Signable, signatures: Sequence[Signature], trusted: PublisherKeys) -> Iterator[PublisherKey]:
    """Yield the trusted keys whose owners have signed this."""
    for signature in signatures:
        signer = trusted.find(signature.key)
        if signer is not None and is_valid(signature, what):
            yield signer
