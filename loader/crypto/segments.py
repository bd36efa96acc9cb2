"""Segments of Google Tink's AES-GCM-HKDF streaming, template AES256_GCM_HKDF_1MB: their sizes, keys and cipher.

    ciphertext = header | segment 0 | segment 1 | ... | last segment
    header     = 0x28 | 32-byte salt | 7-byte nonce prefix
    segment    = AES-256-GCM ciphertext | 16-byte tag
    nonce      = nonce prefix | uint32 BE segment number | 0x01 for the last segment, else 0x00

The header counts as part of the first segment's 1 MiB, so segment n lies at bytes n MiB to n+1 MiB of the ciphertext
and the number and length of all segments follow from its size. Reference: Tink, "AES-GCM-HKDF Streaming AEAD".
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from Crypto.Cipher import AES

from loader.errors import CorruptCiphertext

SEGMENT_SIZE = 1 << 20
HEADER_SIZE = 40
SALT_SIZE = 32
NONCE_PREFIX_SIZE = 7
TAG_SIZE = 16
FIRST_PLAINTEXT_SIZE = SEGMENT_SIZE - HEADER_SIZE - TAG_SIZE
PLAINTEXT_SIZE = SEGMENT_SIZE - TAG_SIZE
KEY_MATERIAL_MIN_SIZE = 32
SEGMENT_KEY_SIZE = 32
HASH_SIZE = 32


def ciphertext_size(plaintext_size: int) -> int:
    """Return the size of the ciphertext, header included, of `plaintext_size` bytes. All sizes are in bytes."""
    further = max(0, plaintext_size - FIRST_PLAINTEXT_SIZE)
    segments = 1 + -(-further // PLAINTEXT_SIZE)
    return HEADER_SIZE + plaintext_size + segments * TAG_SIZE


def plaintext_size(ciphertext_size_: int) -> int:
    """Return the size of the plaintext in a ciphertext of this size. Raises CorruptCiphertext if none has this size."""
    segments = -(-ciphertext_size_ // SEGMENT_SIZE)
    size = ciphertext_size_ - HEADER_SIZE - segments * TAG_SIZE
    if size < 0 or ciphertext_size(size) != ciphertext_size_:
        raise CorruptCiphertext(f"no ciphertext has {ciphertext_size_} bytes")
    return size


def segment_at(offset: int) -> int:
    """Return the number of the segment that has the byte at this offset of the plaintext."""
    return (offset + HEADER_SIZE) // PLAINTEXT_SIZE


def segment_begin(number: int) -> int:
    """Return the offset of the plaintext at which a segment begins."""
    return max(0, number * PLAINTEXT_SIZE - HEADER_SIZE)


def segment_key(key_material: bytes, salt: bytes, associated_data: bytes) -> bytes:
    """Return the 32-byte AES key of one ciphertext: HKDF-SHA256 with the associated data as info, as Tink does it.

    Raises ValueError if `key_material` has less than 32 bytes, because HKDF itself accepts even an empty secret.
    """
    if len(key_material) < KEY_MATERIAL_MIN_SIZE:
        raise ValueError(f"key material must have at least {KEY_MATERIAL_MIN_SIZE} bytes")
    return hkdf(key_material, associated_data, SEGMENT_KEY_SIZE, salt)


def hkdf(key_material: bytes, info: bytes, size: int, salt: bytes = b"") -> bytes:
    """Return `size` bytes of HKDF-SHA256 (RFC 5869, sections 2.2 and 2.3).

    The package Crypto has it too, but makes some sixty calls that each release the GIL: many loads at once would spend
    most of their time on taking it back.
    """
    extracted = hmac.digest(salt, key_material, "sha256")
    output = block = b""
    for number in range(1, -(-size // HASH_SIZE) + 1):
        block = hmac.digest(extracted, block + info + bytes([number]), "sha256")
        output += block
    return output[:size]


@dataclass(frozen=True)
class SegmentCipher:
    """Seals, opens and verifies single segments of one ciphertext, in place and in any order."""

    key: bytes = field(repr=False)
    nonce_prefix: bytes

    @classmethod
    def derive(cls, header: bytes, key_material: bytes, associated_data: bytes) -> SegmentCipher:
        """Return the cipher for the 40-byte `header` of a ciphertext. Raises CorruptCiphertext if it is no header."""
        if len(header) != HEADER_SIZE or header[0] != HEADER_SIZE:
            raise CorruptCiphertext("the ciphertext does not start with a valid header")
        salt = header[1 : 1 + SALT_SIZE]
        return cls(segment_key(key_material, salt, associated_data), header[1 + SALT_SIZE :])

    def seal(self, number: int, last: bool, segment: memoryview) -> memoryview:
        """Encrypt `segment` in place and return it: plaintext and 16 free bytes become ciphertext and tag."""
        text, tag = segment[:-TAG_SIZE], segment[-TAG_SIZE:]
        tag[:] = self._gcm(number, last).encrypt_and_digest(text, output=text)[1]
        return segment

    def open(self, number: int, last: bool, segment: memoryview) -> memoryview:
        """Decrypt `segment` (ciphertext and tag) in place and return a view of the plaintext.

        Raises CorruptCiphertext if the segment does not authenticate. It is wiped then, because the cipher decrypts
        before it compares the tag, so that the buffer holds unverified plaintext.
        """
        text, tag = segment[:-TAG_SIZE], segment[-TAG_SIZE:]
        try:
            self._gcm(number, last).decrypt_and_verify(text, tag, output=text)
        except ValueError:
            text[:] = bytes(len(text))
            raise CorruptCiphertext(f"segment {number} does not authenticate", number) from None
        return text

    def _gcm(self, number: int, last: bool):  # type: ignore[no-untyped-def]  # the package keeps its mode classes private
        return AES.new(self.key, AES.MODE_GCM, nonce=self._nonce(number, last))

    def _nonce(self, number: int, last: bool) -> bytes:
        # A nonce never repeats under one key, because each ciphertext has its own key and each segment its own number.
        return self.nonce_prefix + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")
