"""A second implementation of the streaming format, written from its description and sharing no code with the loader.

It takes salt and nonce prefix as arguments, so that ciphertexts can be made again byte for byte, and it seals single
segments under any number and flag, so that the forgeries of the tests are properly authenticated ones.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from Crypto.Cipher import AES

MIB = 1_048_576
HEADER = 40
TAG = 16


def hkdf_sha256(key_material: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869, sections 2.2 and 2.3."""
    pseudorandom_key = hmac.digest(salt or bytes(32), key_material, "sha256")
    output, block, counter = b"", b"", 0
    while len(output) < size:
        counter += 1
        block = hmac.digest(pseudorandom_key, block + info + bytes([counter]), "sha256")
        output += block
    return output[:size]


def pattern(size: int) -> bytes:
    """Return the first bytes of an endless stream that does not repeat, as plaintext of the tests."""
    return hashlib.shake_256(b"azaion-loader test plaintext").digest(size)


@dataclass(frozen=True)
class ReferenceCipher:
    """The key, prefix and associated data of one ciphertext of AES256_GCM_HKDF_1MB."""

    key_material: bytes
    associated_data: bytes
    salt: bytes = bytes(range(100, 132))
    nonce_prefix: bytes = bytes(range(200, 207))

    @property
    def header(self) -> bytes:
        """The first 40 bytes of the ciphertext."""
        return b"\x28" + self.salt + self.nonce_prefix

    def segment(self, number: int, last: bool, plaintext: bytes) -> bytes:
        """Return the ciphertext and the tag of one segment."""
        key = hkdf_sha256(self.key_material, self.salt, self.associated_data, 32)
        nonce = self.nonce_prefix + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")
        ciphertext, tag = AES.new(key, AES.MODE_GCM, nonce=nonce).encrypt_and_digest(plaintext)
        return ciphertext + tag

    def seal(self, plaintext: bytes) -> bytes:
        """Return the whole ciphertext."""
        texts = cut(plaintext)
        sealed = (self.segment(n, n == len(texts) - 1, text) for n, text in enumerate(texts))
        return self.header + b"".join(sealed)


def cut(plaintext: bytes) -> list[bytes]:
    """Return the plaintext of each segment; one empty piece for the empty plaintext."""
    first, further = MIB - HEADER - TAG, MIB - TAG
    return [plaintext[:first], *(plaintext[n : n + further] for n in range(first, len(plaintext), further))]
