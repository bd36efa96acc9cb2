"""Plaintext and ciphertext sizes determine each other, and a size that no ciphertext has is refused."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader.crypto.segments import ciphertext_size, plaintext_size
from loader.errors import CorruptCiphertext
from tests.crypto.streams import UNHURRIED, reader_of, seal

MIB = 1_048_576
FORMATS_MD = Path(__file__).parents[2] / "docs" / "formats.md"


@pytest.mark.parametrize(
    ("plaintext", "ciphertext"),
    [
        (0, 56),
        (1, 57),
        (MIB - 57, MIB - 1),
        (MIB - 56, MIB),
        (MIB - 55, MIB + 17),
        (2 * MIB - 73, 2 * MIB - 1),
        (2 * MIB - 72, 2 * MIB),
        (2 * MIB - 71, 2 * MIB + 17),
        (1000 * MIB - 40 - 16_000, 1000 * MIB),
        (1000 * MIB - 40 - 16_000 + 1, 1000 * MIB + 17),
    ],
)
def test_sizes_follow_from_each_other(plaintext: int, ciphertext: int) -> None:
    assert ciphertext_size(plaintext) == ciphertext
    assert plaintext_size(ciphertext) == plaintext


def test_the_sizes_in_the_documentation() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| ([\d,]+) \|$", FORMATS_MD.read_text(), re.MULTILINE)
    assert len(rows) >= 7
    for row in rows:
        plaintext, segments, ciphertext = (int(cell.replace(",", "")) for cell in row)
        assert ciphertext_size(plaintext) == ciphertext == 40 + plaintext + 16 * segments


@UNHURRIED
@given(st.integers(0, 1 << 52))
def test_plaintext_size_is_the_inverse_of_ciphertext_size(size: int) -> None:
    assert plaintext_size(ciphertext_size(size)) == size


@UNHURRIED
@given(st.integers(-10, 1 << 52) | st.integers(1, 50).flatmap(lambda n: st.integers(n * MIB - 60, n * MIB + 60)))
def test_a_size_is_a_ciphertexts_or_is_refused(size: int) -> None:
    try:
        plaintext = plaintext_size(size)
    except CorruptCiphertext:
        # The last segment would be shorter than a tag.
        assert size < 56 or 0 < size % MIB < 17
    else:
        assert plaintext >= 0
        assert ciphertext_size(plaintext) == size


IMPOSSIBLE_SIZES = [-1, 0, 1, 39, 40, 41, 55, MIB + 1, MIB + 15, MIB + 16, 7 * MIB + 1, 7 * MIB + 16]


@pytest.mark.parametrize("size", IMPOSSIBLE_SIZES)
def test_a_size_that_no_ciphertext_has_is_refused_before_anything_is_read(size: int) -> None:
    with pytest.raises(CorruptCiphertext):
        plaintext_size(size)
    source = io.BytesIO(seal(b"x" * 100))
    with pytest.raises(CorruptCiphertext):
        reader_of(source, size)
    assert source.tell() == 0
