"""Streaming AEAD between honest parties: round trips, pieces, buffers, and what an exception leaves behind."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.crypto import streaming_aead
from loader.crypto.segments import (
    FIRST_PLAINTEXT_SIZE,
    HEADER_SIZE,
    PLAINTEXT_SIZE,
    SEGMENT_SIZE,
    SegmentCipher,
    ciphertext_size,
)
from loader.crypto.streaming_aead import DecryptingReader, encrypt
from loader.errors import CorruptCiphertext
from tests.crypto.reference import ReferenceCipher, pattern
from tests.crypto.streams import (
    AD,
    BOUNDARY_SIZES,
    KEY,
    UNHURRIED,
    collect,
    read_all,
    read_to_failure,
    reader_of,
    seal,
    unseal,
)

MIB = 1_048_576


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
def test_a_sealed_plaintext_is_read_back(size: int) -> None:
    ciphertext = seal(pattern(size))
    assert len(ciphertext) == ciphertext_size(size)
    reader = reader_of(io.BytesIO(ciphertext), len(ciphertext))
    assert reader.plaintext_size == size
    assert read_all(reader) == pattern(size)


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
def test_the_reference_implementation_agrees(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = ReferenceCipher(KEY, AD)
    monkeypatch.setattr(streaming_aead, "get_random_bytes", lambda count: reference.header[1:][:count])
    ciphertext = seal(pattern(size))
    assert ciphertext == reference.seal(pattern(size))
    assert unseal(ciphertext) == pattern(size)


def test_a_finished_reader_stays_finished() -> None:
    ciphertext = seal(pattern(3 * MIB))
    reader = reader_of(io.BytesIO(ciphertext), len(ciphertext))
    assert len(list(reader)) == 4
    assert [next(reader, None) for _ in range(3)] == [None, None, None]


def test_a_reader_starts_where_its_source_stands_and_leaves_it_open() -> None:
    source = io.BytesIO(b"something before" + seal(b"text"))
    source.seek(len(b"something before"))
    assert read_all(reader_of(source, 60)) == b"text"
    assert not source.closed


def test_two_ciphertexts_of_one_plaintext_differ_in_salt_prefix_and_text() -> None:
    one, other = seal(bytes(64)), seal(bytes(64))
    assert one[1:33] != other[1:33]  # salt
    assert one[33:40] != other[33:40]  # nonce prefix
    assert one[40:56] != other[40:56]


def test_the_pieces_of_a_ciphertext_are_its_header_and_its_segments() -> None:
    sizes = [len(piece) for piece in encrypt([pattern(3 * MIB)], KEY, AD)]
    assert sizes == [HEADER_SIZE, SEGMENT_SIZE - HEADER_SIZE, SEGMENT_SIZE, SEGMENT_SIZE, 40 + 4 * 16]


def test_short_key_material_is_a_mistake_of_the_caller_and_not_a_corrupt_ciphertext() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        seal(b"", key=bytes(31))
    failed = read_to_failure(lambda: DecryptingReader(io.BytesIO(seal(b"")), 56, bytes(31), AD))
    assert isinstance(failed.failure, ValueError)


def test_repr_of_a_cipher_does_not_show_its_key() -> None:
    cipher = SegmentCipher(KEY, bytes(7))
    assert repr(KEY) not in repr(cipher)
    assert KEY.hex() not in repr(cipher)


SIZES_NEAR_BOUNDARIES = st.sampled_from(BOUNDARY_SIZES) | st.integers(0, 2 * MIB)
PIECE_SIZES = (
    st.integers(0, 80) | st.sampled_from([FIRST_PLAINTEXT_SIZE, PLAINTEXT_SIZE, MIB]) | st.integers(0, 2 * MIB)
)


def pieces_of(plaintext: bytes, sizes: list[int]) -> Iterator[bytes]:
    """`plaintext` in pieces of those `sizes`, and what is left in a last one."""
    stream = io.BytesIO(plaintext)
    yield from (stream.read(size) for size in sizes)
    yield stream.read()


@settings(UNHURRIED, max_examples=60)
@given(SIZES_NEAR_BOUNDARIES, st.lists(PIECE_SIZES, max_size=8))
def test_the_sizes_of_the_pieces_do_not_change_the_result(size: int, piece_sizes: list[int]) -> None:
    plaintext = pattern(size)
    pieces = encrypt(pieces_of(plaintext, piece_sizes), KEY, AD)
    ciphertext = b"".join(bytes(piece) for piece in pieces)
    assert len(ciphertext) == ciphertext_size(size)
    assert unseal(ciphertext) == plaintext


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_plaintext(kind: type) -> None:
    text = pattern(MIB)
    assert unseal(b"".join(bytes(piece) for piece in encrypt([kind(text), kind(text)], KEY, AD))) == text + text


def test_a_source_may_fill_the_same_buffer_again() -> None:
    """As `readinto` loops do: a piece that was asked for next has replaced the one before."""
    buffer = bytearray(70_000)

    def refilled() -> Iterator[bytearray]:
        for number in range(40):
            buffer[:] = bytes([number]) * len(buffer)
            yield buffer

    ciphertext = b"".join(bytes(piece) for piece in encrypt(refilled(), KEY, AD))
    assert unseal(ciphertext) == b"".join(bytes([number]) * 70_000 for number in range(40))


@pytest.mark.parametrize(
    "sizes_before",
    [
        [],
        [0],
        [1],
        [FIRST_PLAINTEXT_SIZE],
        [FIRST_PLAINTEXT_SIZE, 1],
        [FIRST_PLAINTEXT_SIZE, PLAINTEXT_SIZE],
        [5 * MIB],
    ],
    ids=[
        "at once",
        "after nothing",
        "after a byte",
        "after 1 segment",
        "after 1 segment and a byte",
        "after 2",
        "after 5",
    ],
)
def test_an_exception_of_the_plaintext_leaves_nothing_that_decrypts(sizes_before: list[int]) -> None:
    torn = OSError("the disk is gone")

    def failing() -> Iterator[bytes]:
        yield from (pattern(size) for size in sizes_before)
        raise torn

    written = bytearray()
    with pytest.raises(OSError, match="the disk is gone") as caught:
        collect(encrypt(failing(), KEY, AD), written)
    assert caught.value is torn

    # What was written is whole segments, none of which is a last one: told its own size or the one that it should have
    # had, a reader refuses it.
    intended = ciphertext_size(sum(sizes_before) + 1)
    for told in {len(written), intended}:
        failed = read_to_failure(partial(reader_of, io.BytesIO(written), told))
        assert isinstance(failed.failure, CorruptCiphertext)
        assert b"".join(failed.released) == pattern(sum(sizes_before))[: len(b"".join(failed.released))]
