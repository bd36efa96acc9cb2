"""Authentic segments in the wrong place, and authentic ciphertexts under the wrong key or name."""

from __future__ import annotations

import io

import pytest

from loader.crypto.streaming_aead import DecryptingReader
from loader.errors import CorruptCiphertext
from tests.crypto.reference import HEADER, MIB, ReferenceCipher, cut
from tests.crypto.streams import AD, KEY, read_to_failure, reader_of, unseal
from tests.crypto.tampering import (
    CIPHER,
    CIPHERTEXTS,
    OTHER_CIPHER,
    PLAINTEXTS,
    TELLING,
    Change,
    Changes,
    assert_refused,
    grid,
    stored,
)
from tests.support.flips import flipped


def moves(ciphertext: bytes) -> Changes:
    """Swap, repeat and drop whole segments; the first segment also without its header."""
    count = len(stored(ciphertext))
    for one, other in [(0, 1), (1, 2), (1, count - 1), (0, count - 1)]:
        yield f"segments {one} and {other} swapped", reordered(swap=(one, other))
    for number in range(count):
        yield f"segment {number} doubled", reordered(double=number)
        yield f"segment {number} dropped", reordered(drop=number)
    yield "first segment dropped, header left", lambda data: data[:HEADER] + data[MIB:]
    yield (
        "first two bodies swapped",
        lambda data: (
            data[:HEADER] + data[MIB + HEADER : 2 * MIB] + data[MIB : MIB + HEADER] + data[HEADER:MIB] + data[2 * MIB :]
        ),
    )


def reordered(swap: tuple[int, int] = (0, 0), double: int | None = None, drop: int | None = None) -> Change:
    """Return a change that splits the ciphertext into segments and joins them in another order."""

    def change(data: bytes) -> bytes:
        pieces = stored(data)
        one, other = swap
        pieces[one], pieces[other] = pieces[other], pieces[one]
        order = [piece for number, piece in enumerate(pieces) for _ in range(2 if number == double else 1)]
        if drop is not None:
            del order[drop]
        return b"".join(order)

    return change


@TELLING
@grid(moves, "four segments", "four full segments")
def test_moved_segments_are_refused(name: str, change: Change, telling: str) -> None:
    tampered = change(CIPHERTEXTS[name])
    assert_refused(name, tampered, len(tampered if telling == "its own size" else CIPHERTEXTS[name]))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_segment_of_another_ciphertext_under_the_same_key_is_refused(number: int) -> None:
    pieces = stored(CIPHERTEXTS["four segments"])
    pieces[number] = stored(OTHER_CIPHER.seal(PLAINTEXTS["four segments"]))[number]
    tampered = b"".join(pieces)
    assert_refused("four segments", tampered, len(tampered))


def test_the_header_of_another_ciphertext_under_the_same_key_is_refused() -> None:
    tampered = OTHER_CIPHER.header + CIPHERTEXTS["four segments"][HEADER:]
    assert_refused("four segments", tampered, len(tampered))


def forged(numbers: list[int], lasts: list[bool]) -> bytes:
    """Return authentic segments of the right plaintext, sealed under the given numbers and flags."""
    texts = cut(PLAINTEXTS["four segments"])
    sealed = (CIPHER.segment(*segment) for segment in zip(numbers, lasts, texts, strict=True))
    return CIPHER.header + b"".join(sealed)


FORGERIES = {
    "no segment is the last": ([0, 1, 2, 3], [False] * 4, 3),
    "every segment is a last one": ([0, 1, 2, 3], [True] * 4, 0),
    "a last one in the middle": ([0, 1, 2, 3], [False, True, False, True], 1),
    "counted from 1": ([1, 2, 3, 4], [False, False, False, True], 0),
    "all numbered 0": ([0, 0, 0, 0], [False, False, False, True], 1),
    "a number left out": ([0, 1, 3, 4], [False, False, False, True], 2),
}


@pytest.mark.parametrize(("numbers", "lasts", "whole"), FORGERIES.values(), ids=FORGERIES)
def test_numbers_and_flags_are_authenticated(numbers: list[int], lasts: list[bool], whole: int) -> None:
    ciphertext = forged(numbers, lasts)
    failed = read_to_failure(lambda: reader_of(io.BytesIO(ciphertext), len(ciphertext)))
    assert type(failed.failure) is CorruptCiphertext
    assert failed.released == cut(PLAINTEXTS["four segments"])[:whole]


def test_forged_can_make_the_authentic_ciphertext() -> None:
    assert forged([0, 1, 2, 3], [False, False, False, True]) == CIPHERTEXTS["four segments"]


WRONG_SECRETS = {
    "first bit of the key": (flipped(KEY, 0), AD),
    "last bit of the key": (flipped(KEY, 31), AD),
    "longer key": (KEY + b"\0", AD),
    "no associated data": (KEY, b""),
    "other associated data": (KEY, b"models/day/detector.onnY"),
    "shorter associated data": (KEY, AD[:-1]),
    "longer associated data": (KEY, AD + b"\0"),
}


@pytest.mark.parametrize(("key", "associated_data"), WRONG_SECRETS.values(), ids=WRONG_SECRETS)
@pytest.mark.parametrize("name", CIPHERTEXTS)
def test_a_wrong_key_or_wrong_associated_data_is_refused(name: str, key: bytes, associated_data: bytes) -> None:
    ciphertext = CIPHERTEXTS[name]
    failed = read_to_failure(lambda: DecryptingReader(io.BytesIO(ciphertext), len(ciphertext), key, associated_data))
    assert type(failed.failure) is CorruptCiphertext
    assert failed.released == []


def test_a_ciphertext_without_associated_data_is_refused_with_some() -> None:
    ciphertext = ReferenceCipher(KEY, b"").seal(b"text")
    assert unseal(ciphertext, associated_data=b"") == b"text"
    failed = read_to_failure(lambda: reader_of(io.BytesIO(ciphertext), len(ciphertext)))
    assert type(failed.failure) is CorruptCiphertext
