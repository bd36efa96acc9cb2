"""HKDF against the vectors of RFC 5869, or against a second implementation where their inputs are too short."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader.crypto.archive_seals import key_check, root_id
from loader.crypto.segments import hkdf, segment_key
from tests.crypto.reference import hkdf_sha256
from tests.crypto.streams import UNHURRIED

# RFC 5869, appendix A.1 to A.3: secret, salt, info, output.
RFC_5869 = {
    "A.1": (
        b"\x0b" * 22,
        bytes(range(0x0D)),
        bytes(range(0xF0, 0xFA)),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    "A.2": (
        bytes(range(0x50)),
        bytes(range(0x60, 0xB0)),
        bytes(range(0xB0, 0x100)),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    "A.3": (
        b"\x0b" * 22,
        b"",
        b"",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
}


@pytest.mark.parametrize(("secret", "salt", "info", "output"), RFC_5869.values(), ids=RFC_5869)
def test_the_reference_implementation_is_that_of_the_rfc(secret: bytes, salt: bytes, info: bytes, output: str) -> None:
    assert hkdf_sha256(secret, salt, info, len(output) // 2).hex() == output


def test_a_segment_key_is_the_begin_of_the_rfcs_output() -> None:
    secret, salt, info, output = RFC_5869["A.2"]
    assert segment_key(secret, salt, info).hex() == output[:64]


@UNHURRIED
@given(st.binary(min_size=32, max_size=200), st.binary(max_size=64), st.binary(max_size=300))
def test_a_segment_key_is_hkdf_of_key_material_salt_and_associated_data(key: bytes, salt: bytes, data: bytes) -> None:
    assert segment_key(key, salt, data) == hkdf_sha256(key, salt, data, 32)


@pytest.mark.parametrize(("secret", "salt", "info", "output"), RFC_5869.values(), ids=RFC_5869)
def test_hkdf_is_that_of_the_rfc(secret: bytes, salt: bytes, info: bytes, output: str) -> None:
    for size in range(len(output) // 2 + 1):
        assert hkdf(secret, info, size, salt).hex() == output[: 2 * size]


@pytest.mark.parametrize("size", [32, 33, 64, 65, 4096])
def test_key_material_of_any_length_from_32_bytes(size: int) -> None:
    assert segment_key(b"k" * size, b"s" * 32, b"") == hkdf_sha256(b"k" * size, b"s" * 32, b"", 32)


@pytest.mark.parametrize("size", [0, 1, 16, 31])
def test_key_material_shorter_than_32_bytes_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        segment_key(bytes(size), bytes(32), b"")


@UNHURRIED
@given(st.binary(min_size=32, max_size=4096))
def test_a_key_check_is_eight_bytes_of_hkdf_in_hex(fragment: bytes) -> None:
    check = key_check(fragment)
    assert check == hkdf_sha256(fragment, b"", b"azaion-loader key check v1", 8).hex()
    assert re.fullmatch("[0-9a-f]{16}", check)


def test_a_key_check_as_openssl_computes_it() -> None:
    """`openssl kdf -keylen 8 -kdfopt digest:SHA256 -kdfopt hexkey:000102... -kdfopt "info:azaion-..." HKDF`."""
    assert key_check(bytes(range(32))) == "0756436259cec24b"


@pytest.mark.parametrize("position", [0, 15, 31])
def test_another_fragment_has_another_key_check(position: int) -> None:
    fragment = bytearray(32)
    fragment[position] = 1
    assert key_check(bytes(fragment)) != key_check(bytes(32))


@UNHURRIED
@given(st.binary(min_size=32, max_size=32))
def test_a_root_id_is_sixteen_bytes_of_hkdf_in_hex(root: bytes) -> None:
    named = root_id(root)
    assert named == hkdf_sha256(root, b"", b"azaion-loader/2 root id", 16).hex()
    assert re.fullmatch("[0-9a-f]{32}", named)
