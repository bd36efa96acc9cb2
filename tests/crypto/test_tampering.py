"""Flipped bits, missing ends, added bytes: intact segments are released, then every read raises CorruptCiphertext."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.crypto.segments import SegmentCipher
from loader.errors import CorruptCiphertext
from tests.crypto.reference import HEADER, MIB, TAG, pattern
from tests.crypto.streams import UNHURRIED, read_to_failure, reader_of, unseal
from tests.crypto.tampering import (
    CIPHER,
    CIPHERTEXTS,
    PLAINTEXTS,
    TELLING,
    Change,
    Changes,
    assert_refused,
    flip,
    grid,
    stored,
)


@pytest.mark.parametrize("name", CIPHERTEXTS)
def test_untouched_ciphertexts_are_read(name: str) -> None:
    assert unseal(CIPHERTEXTS[name]) == PLAINTEXTS[name]


def flips(ciphertext: bytes) -> Changes:
    """Return bits of every byte of the header, and bits in the first, a middle and the last segment."""
    for position in range(HEADER):
        yield f"header byte {position}", flip(position)
    begins = [HEADER, *range(MIB, len(ciphertext), MIB)]
    ends = [*range(MIB, len(ciphertext), MIB), len(ciphertext)]
    for number in sorted({0, len(begins) // 2, len(begins) - 1}):
        begin, end = begins[number], ends[number]
        tag = {f"tag byte {n}": end - TAG + n for n in range(TAG)}
        text = {"first byte": begin, "middle byte": (begin + end - TAG) // 2, "last byte": end - TAG - 1}
        for place, position in {**tag, **(text if end - begin > TAG else {})}.items():
            yield f"segment {number}, {place}", flip(position)


@grid(flips, *CIPHERTEXTS)
def test_a_flipped_bit(name: str, change: Change) -> None:
    assert_refused(name, change(CIPHERTEXTS[name]), len(CIPHERTEXTS[name]))


def cut_to(length: int) -> Change:
    """Return a change that keeps the first `length` bytes."""
    return lambda data: data[:length]


def cuts(ciphertext: bytes) -> Changes:
    """Return truncations in the header, around the smallest ciphertext and around every end of a segment."""
    begins = [0, HEADER, HEADER + TAG, *range(MIB, len(ciphertext), MIB), len(ciphertext)]
    lengths = {begin + offset for begin in begins for offset in (-1, 0, 1)}
    for length in sorted(length for length in lengths if 0 <= length < len(ciphertext)):
        yield f"cut to {length}", cut_to(length)


def additions(ciphertext: bytes) -> Changes:
    """Return additions: any bytes, as many as a tag, and whole segments that were sealed under the same key."""
    count = len(stored(ciphertext))
    yield "a byte added", lambda data: data + b"\0"
    yield "16 bytes added", lambda data: data + bytes(TAG)
    yield "an empty segment added", lambda data: data + CIPHER.segment(count, True, b"")
    yield "a whole segment added", lambda data: data + CIPHER.segment(count, True, pattern(MIB - TAG))
    yield "the ciphertext added to itself", lambda data: data + data
    yield "the last segment twice", lambda data: data + (stored(data)[-1])


@TELLING
@grid(cuts, *CIPHERTEXTS)
def test_truncation(name: str, change: Change, telling: str) -> None:
    tampered = change(CIPHERTEXTS[name])
    assert_refused(name, tampered, len(tampered if telling == "its own size" else CIPHERTEXTS[name]))


@TELLING
@grid(additions, *CIPHERTEXTS)
def test_added_bytes(name: str, change: Change, telling: str) -> None:
    tampered = change(CIPHERTEXTS[name])
    assert_refused(name, tampered, len(tampered if telling == "its own size" else CIPHERTEXTS[name]))


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_ciphertext_cut_between_segments_has_no_end(kept: int) -> None:
    """A reader that ignores the mark of the last segment would take this truncation for a shorter file."""
    name = "four segments"
    failed = assert_refused(name, CIPHERTEXTS[name][: kept * MIB], kept * MIB)
    assert len(failed.released) == kept - 1


@pytest.mark.parametrize("name", ["one segment", "four segments"])
@TELLING
def test_a_byte_after_the_end_holds_the_last_segment_back(name: str, telling: str) -> None:
    original = CIPHERTEXTS[name]
    tampered = original + b"\0"
    failed = read_to_failure(
        lambda: reader_of(io.BytesIO(tampered), len(tampered if telling == "its own size" else original))
    )
    assert type(failed.failure) is CorruptCiphertext
    assert len(failed.released) < len(stored(original))


@pytest.mark.parametrize("position", [0, 49, 50, 65], ids=["first byte", "last byte", "tag begin", "tag end"])
def test_a_segment_that_does_not_authenticate_is_wiped(position: int) -> None:
    """The cipher decrypts before it compares the tag, so that the plaintext in the buffer must be wiped."""
    segment = bytearray(CIPHER.segment(0, True, pattern(50)))
    segment[position] ^= 1
    cipher = SegmentCipher.derive(CIPHER.header, CIPHER.key_material, CIPHER.associated_data)
    with pytest.raises(CorruptCiphertext):
        cipher.open(0, True, memoryview(segment))
    assert segment[:50] == bytes(50)


@settings(UNHURRIED, max_examples=300)
@given(
    begin=st.integers(0, 5056),
    end=st.integers(0, 5056),
    patch=st.binary(max_size=80),
    told=st.sampled_from(["its own size", "the original size"]),
)
def test_any_bytes_in_place_of_any_others(begin: int, end: int, patch: bytes, told: str) -> None:
    original = CIPHERTEXTS["one segment"]
    tampered = original[:begin] + patch + original[end:]
    if tampered != original:
        assert_refused("one segment", tampered, len(tampered if told == "its own size" else original))
