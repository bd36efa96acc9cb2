"""Every key derivation of the project: HKDF with SHA-256 (RFC 5869).

The cipher's package has one too, in some sixty calls that each give the interpreter lock away: many loads at once then
spend most of their time on getting it back.
"""

from __future__ import annotations

import hmac

KEY_MATERIAL_MIN_SIZE = 32
SEGMENT_KEY_SIZE = 32
KEY_CHECK_SIZE = 8
KEY_CHECK_INFO = b"azaion-loader key check v1"


def segment_key(key_material: bytes, salt: bytes, associated_data: bytes) -> bytes:
    """The 32-byte AES key of one ciphertext: Tink AES-GCM-HKDF streaming, info = associated data.

    `key_material` is at least 32 bytes, else ValueError: HKDF itself would accept even an empty secret.
    """
    if len(key_material) < KEY_MATERIAL_MIN_SIZE:
        raise ValueError(f"key material must have at least {KEY_MATERIAL_MIN_SIZE} bytes")
    return _hkdf(key_material, SEGMENT_KEY_SIZE, salt, associated_data)


def key_check(fragment: bytes) -> str:
    """16 hex digits by which an archive's manifest recognises its key fragment, and which say nothing else about it."""
    return _hkdf(fragment, KEY_CHECK_SIZE, b"", KEY_CHECK_INFO).hex()


def _hkdf(key_material: bytes, size: int, salt: bytes, info: bytes) -> bytes:
    """`size` is at most 32 bytes, so that the expansion is its first block, T(1)."""
    extracted = hmac.digest(salt, key_material, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:size]
