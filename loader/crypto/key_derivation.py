"""Every key derivation of the project: HKDF with SHA-256 (RFC 5869)."""

from __future__ import annotations

from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

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
    return HKDF(key_material, SEGMENT_KEY_SIZE, salt, SHA256, context=associated_data)


def key_check(fragment: bytes) -> str:
    """16 hex digits by which an archive's manifest recognises its key fragment, and which say nothing else about it."""
    return HKDF(fragment, KEY_CHECK_SIZE, b"", SHA256, context=KEY_CHECK_INFO).hex()
