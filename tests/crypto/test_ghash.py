"""Tags computed without decrypting, against the cipher's own, and the product against the GCM specification."""

from __future__ import annotations

import io
import os

import pytest
from Crypto.Cipher import AES
from hypothesis import given
from hypothesis import strategies as st

from loader.crypto.segments import SEGMENT_SIZE, SegmentCipher, ciphertext_tag, product
from loader.crypto.streaming_aead import VerifyingReader
from loader.errors import CorruptCiphertext
from tests.crypto.streams import AD, seal
from tests.crypto.streams import KEY as MATERIAL

KEY = bytes(range(32))
CIPHER = SegmentCipher(KEY, bytes(7))


def test_product_agrees_with_the_specification() -> None:
    """McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test case 2: GHASH of one block."""
    hash_key = 0x66E94BD4EF8A2C3B884CFA59CA342B2E
    block = product(0x0388DACE60B6A392F328C2B971B2FE78, hash_key)
    assert block == 0x5E2EC746917062882C85B0685353DEB7
    assert product(block ^ 0x80, hash_key) == 0xF38CBB1AD69223DCC3457AE5B6B0F885


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 255, 4096, SEGMENT_SIZE - 56, SEGMENT_SIZE - 16])
def test_tag_agrees_with_the_cipher(size: int) -> None:
    nonce = os.urandom(12)
    ciphertext, tag = AES.new(KEY, AES.MODE_GCM, nonce=nonce).encrypt_and_digest(os.urandom(size))
    assert ciphertext_tag(KEY, nonce, memoryview(ciphertext)) == tag


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32), st.binary(min_size=12, max_size=12))
def test_tag_agrees_with_the_cipher_for_any_input(text: bytes, key: bytes, nonce: bytes) -> None:
    ciphertext, tag = AES.new(key, AES.MODE_GCM, nonce=nonce).encrypt_and_digest(text)
    assert ciphertext_tag(key, nonce, memoryview(ciphertext)) == tag


@given(st.binary(max_size=100), st.data())
def test_verify_refuses_what_open_refuses(text: bytes, data: st.DataObject) -> None:
    sealed = CIPHER.seal(3, True, memoryview(bytearray(text + bytes(16))))
    assert CIPHER.verify(3, True, sealed) == sealed[:-16]
    for number, last in ((3, False), (2, True)):
        with pytest.raises(CorruptCiphertext, match=f"segment {number} does not authenticate"):
            CIPHER.verify(number, last, sealed)
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for refuse in (CIPHER.verify, CIPHER.open):
        with pytest.raises(CorruptCiphertext, match="segment 3 does not authenticate"):
            refuse(3, True, sealed)


@pytest.mark.parametrize("size", [0, 1, SEGMENT_SIZE - 57, SEGMENT_SIZE - 56, SEGMENT_SIZE - 55, 3 * SEGMENT_SIZE])
def test_reader_verifies_the_whole_ciphertext_and_does_not_decrypt_it(size: int) -> None:
    ciphertext = seal(os.urandom(size))
    pieces = [bytes(piece) for piece in VerifyingReader(io.BytesIO(ciphertext), len(ciphertext), MATERIAL, AD)]
    assert sum(map(len, pieces)) == size
    assert all(piece in ciphertext for piece in pieces)
