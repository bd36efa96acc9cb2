"""Ciphertexts to tamper with, and the result that the tampered bytes must have."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest

from loader.errors import CorruptCiphertext
from tests.crypto.reference import HEADER, MIB, TAG, ReferenceCipher, cut, pattern
from tests.crypto.streams import AD, KEY, Failed, read_to_failure, reader_of
from tests.support.flips import flipped

CIPHER = ReferenceCipher(KEY, AD)
OTHER_CIPHER = ReferenceCipher(KEY, AD, salt=bytes(32))

PLAINTEXTS = {
    "one segment": pattern(5000),
    "four segments": pattern(3 * MIB + 300_000),
    "four full segments": pattern(4 * MIB - HEADER - 4 * TAG),
    "empty": b"",
}
CIPHERTEXTS = {name: CIPHER.seal(plaintext) for name, plaintext in PLAINTEXTS.items()}

Change = Callable[[bytes], bytes]
Changes = Iterator[tuple[str, Change]]


def stored(ciphertext: bytes) -> list[bytes]:
    """Return the segments of the file; the first one includes the header."""
    return [ciphertext[begin : begin + MIB] for begin in range(0, len(ciphertext), MIB)]


def intact_segments(original: bytes, tampered: bytes, told: int) -> int:
    """Return how many segments at the start are intact for a reader that was given this size."""
    before, after = stored(original), stored(tampered[:told])
    intact = 0
    for number, (sealed, read) in enumerate(zip(before, after, strict=False)):
        is_last = number == -(-told // MIB) - 1
        if read != sealed or is_last != (number == len(before) - 1) or (is_last and len(tampered) > told):
            break
        intact += 1
    return intact


def assert_refused(name: str, tampered: bytes, told: int) -> Failed:
    """Check that the tampered bytes fail after exactly the intact segments were released."""
    whole = intact_segments(CIPHERTEXTS[name], tampered, told)
    assert whole < len(stored(CIPHERTEXTS[name])), "this is no tampering"
    failed = read_to_failure(lambda: reader_of(io.BytesIO(tampered), told))
    assert type(failed.failure) is CorruptCiphertext
    no_such_size = told < HEADER + TAG or 0 < told % MIB <= TAG
    assert failed.released == ([] if no_such_size else cut(PLAINTEXTS[name])[:whole])
    return failed


def flip(position: int) -> Change:
    """Return a change that flips one bit of one byte."""
    return lambda data: flipped(data, position)


def grid(changes: Callable[[bytes], Changes], *names: str) -> pytest.MarkDecorator:
    """Return a decorator that applies each of `changes` to each named ciphertext."""
    cases = [
        pytest.param(name, change, id=f"{name}: {what}")
        for name in names
        for what, change in changes(CIPHERTEXTS[name])
    ]
    return pytest.mark.parametrize(("name", "change"), cases)


# The reader gets the size of the tampered bytes, or the original size.
TELLING = pytest.mark.parametrize("telling", ["its own size", "the original size"])
