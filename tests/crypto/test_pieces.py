"""Digests of streams and of pieces against the plain formula, and the rule about buffers that are used again."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.crypto import work_ahead
from loader.crypto.pieces import (
    DIGEST_SIZE,
    HELP_MIN_SIZE,
    PIECE_SIZE,
    PieceDigests,
    PieceHash,
    StreamDigest,
    digest_of_pieces,
    is_piece,
)
from tests.crypto.reference import pattern
from tests.crypto.reference_archive import piece_digest
from tests.crypto.streams import UNHURRIED

MIB = 1 << 20


def digests_of(data: bytes) -> PieceDigests:
    digests = PieceDigests()
    for begin in range(0, len(data), PIECE_SIZE):
        digests.add(memoryview(data)[begin : begin + PIECE_SIZE])
    return digests


def test_a_piece_has_one_mebibyte_and_a_digest_32_bytes() -> None:
    assert (PIECE_SIZE, DIGEST_SIZE) == (MIB, 32)


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1, 9 * MIB + 7])
@pytest.mark.usefixtures("cores")
def test_the_digest_is_that_of_the_formula(size: int) -> None:
    data = pattern(size)
    assert digests_of(data).hex() == piece_digest(data)


def test_no_bytes_have_the_digest_of_no_digests() -> None:
    assert PieceDigests().hex() == hashlib.sha256(b"").hexdigest()
    assert digests_of(b"x").hex() == hashlib.sha256(hashlib.sha256(b"x").digest()).hexdigest()


def test_the_digest_can_be_asked_for_again() -> None:
    digests = digests_of(pattern(3 * MIB))
    assert digests.hex() == digests.hex() == piece_digest(pattern(3 * MIB))


def test_a_buffer_may_be_filled_again_once_so_many_pieces_were_added(cores: int) -> None:
    """With one buffer less, a piece would be overwritten while it waits for its turn."""
    buffers = [bytearray(MIB) for _ in range(cores + 1)]
    digests = PieceDigests()
    for number in range(3 * len(buffers)):
        buffer = buffers[number % len(buffers)]
        buffer[:] = bytes([number]) * MIB
        digests.add(memoryview(buffer))
    assert digests.hex() == piece_digest(b"".join(bytes([number]) * MIB for number in range(3 * len(buffers))))


def test_a_buffer_that_is_filled_too_early_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counterpart of the test above: nothing but the rule protects the buffers. No helper is asked here."""
    monkeypatch.setattr(work_ahead, "_helpers", lambda: None)
    monkeypatch.setattr(PieceDigests, "lag", 4)
    buffer, digests = bytearray(10), PieceDigests()
    for number in range(4):
        buffer[:] = bytes([number]) * 10
        digests.add(memoryview(buffer))
    buffer[:] = b"\xff" * 10
    assert digests.hex() == hashlib.sha256(hashlib.sha256(b"\xff" * 10).digest() * 4).hexdigest()


@pytest.mark.usefixtures("cores")
def test_each_piece_matches_its_own_number_only() -> None:
    data = pattern(3 * MIB + 5)
    digests = digests_of(data)
    digests.hex()
    parts = [data[begin : begin + MIB] for begin in range(0, len(data), MIB)]
    for number in range(6):
        assert [digests.match(number, part) for part in parts] == [number == at for at in range(len(parts))]
    assert not digests.match(4, b"")


@settings(UNHURRIED, max_examples=20)
@given(st.integers(0, 2), st.integers(0, 100), st.data())
def test_a_changed_piece_does_not_match(number: int, end: int, data: st.DataObject) -> None:
    content = pattern(2 * MIB + 1 + end)
    digests = digests_of(content)
    digests.hex()
    piece = memoryview(bytearray(content[number * MIB : (number + 1) * MIB]))
    assert digests.match(number, piece)
    piece[data.draw(st.integers(0, len(piece) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert not digests.match(number, piece)


@pytest.mark.parametrize("sizes", [[], [0], [1], [HELP_MIN_SIZE - 1, HELP_MIN_SIZE, 1], [MIB] * 40, [7, MIB, 7] * 20])
def test_a_stream_has_the_digest_of_its_bytes(sizes: list[int]) -> None:
    digest = StreamDigest()
    pieces = [pattern(size) for size in sizes]
    assert [*digest.watch(pieces)] == pieces
    whole = b"".join(pieces)
    assert digest.result() == digest.result() == (hashlib.sha256(whole).hexdigest(), len(whole))


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 7])
@pytest.mark.parametrize("step", [1000, 65_521, MIB, 2 * MIB + 1])
def test_bytes_of_any_lengths_have_the_same_digest(size: int, step: int) -> None:
    data, digest = pattern(size), PieceHash()
    for begin in range(0, size, step):
        digest.update(memoryview(data)[begin : begin + step])
        # Look before, at and after the ends of pieces only, because each look hashes all bytes so far.
        if any((begin + near * step) % MIB < step for near in range(3)):
            assert digest.hex() == piece_digest(data[: begin + step])
    assert digest.hex() == digest_of_pieces(digest.digests()) == piece_digest(data)
    assert len(digest.digests()) == -(-size // MIB) * DIGEST_SIZE


def test_a_piece_is_recognised_by_its_number_and_its_bytes() -> None:
    data, digest = pattern(2 * MIB + 7), PieceHash()
    digest.update(data)
    pieces = [data[begin : begin + MIB] for begin in range(0, len(data), MIB)]
    matrix = [[is_piece(digest.digests(), number, piece) for piece in pieces] for number in range(4)]
    assert matrix == [[number == other for other in range(3)] for number in range(4)]
