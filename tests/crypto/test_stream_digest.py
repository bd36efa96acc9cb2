"""The SHA-256 that another core computes is the one of the same bytes in the same order."""

from __future__ import annotations

import hashlib

import pytest

from loader.crypto.stream_digest import HELP_MIN_SIZE, StreamDigest
from tests.crypto.reference import MIB, pattern


@pytest.mark.parametrize("sizes", [[], [0], [1], [HELP_MIN_SIZE - 1, HELP_MIN_SIZE, 1], [MIB] * 40, [7, MIB, 7] * 20])
def test_a_stream_has_the_digest_of_its_bytes(sizes: list[int]) -> None:
    digest = StreamDigest()
    pieces = [pattern(size) for size in sizes]
    assert [*digest.watch(pieces)] == pieces
    whole = b"".join(pieces)
    assert digest.result() == digest.result() == (hashlib.sha256(whole).hexdigest(), len(whole))
