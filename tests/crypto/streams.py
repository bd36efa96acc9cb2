"""Helpers of the stream tests: seal, read to the end, read to the failure."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hypothesis import HealthCheck, settings

from loader.crypto.segments import FIRST_PLAINTEXT_SIZE, PLAINTEXT_SIZE
from loader.crypto.streaming_aead import Buffer, DecryptingReader, Source, encrypt

KEY = bytes(range(32))
AD = b"models/day/detector.onnx"

# Hypothesis has no deadline, because the time of an example depends on the other load of the machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Plaintext sizes at which the number or the kind of segments changes.
BOUNDARY_SIZES = [
    0,
    1,
    15,
    16,
    FIRST_PLAINTEXT_SIZE - 1,
    FIRST_PLAINTEXT_SIZE,
    FIRST_PLAINTEXT_SIZE + 1,
    FIRST_PLAINTEXT_SIZE + PLAINTEXT_SIZE - 1,
    FIRST_PLAINTEXT_SIZE + PLAINTEXT_SIZE,
    FIRST_PLAINTEXT_SIZE + PLAINTEXT_SIZE + 1,
    3_670_016,
]


@dataclass(frozen=True)
class Failed:
    """The result of a read that ended in `failure` after it had released the segments `released`."""

    released: list[bytes]
    failure: BaseException


def seal(plaintext: bytes, key: bytes = KEY, associated_data: bytes = AD) -> bytes:
    """Return the ciphertext, made by the code under test."""
    return b"".join(bytes(piece) for piece in encrypt([plaintext], key, associated_data))


def unseal(ciphertext: bytes, key: bytes = KEY, associated_data: bytes = AD) -> bytes:
    """Return the plaintext, read by the code under test."""
    return read_all(DecryptingReader(io.BytesIO(ciphertext), len(ciphertext), key, associated_data))


def read_all(reader: DecryptingReader) -> bytes:
    """Return all pieces of `reader`, each copied, because the next one reuses its buffer."""
    return b"".join(bytes(piece) for piece in reader)


def reader_of(source: Source, size: int) -> DecryptingReader:
    """Return a reader with the key and the associated data of `seal`."""
    return DecryptingReader(source, size, KEY, AD)


def collect(pieces: Iterable[Buffer], into: bytearray) -> None:
    """Append each piece, so that the pieces before an exception are kept."""
    for piece in pieces:
        into += piece


def read_to_failure(make_reader: Callable[[], DecryptingReader]) -> Failed:
    """Return the failure of a read, which must occur, and must occur again at every later read."""
    released: list[bytes] = []
    try:
        reader = make_reader()
    except Exception as exc:  # noqa: BLE001  # what it is, is for the caller to check
        return Failed(released, exc)
    failure = _drain(reader, released)
    before = len(released)
    assert all(_drain(reader, released) is failure for _ in range(3))
    assert len(released) == before
    return Failed(released, failure)


def _drain(reader: DecryptingReader, released: list[bytes]) -> Exception:
    try:
        for piece in reader:
            released.append(bytes(piece))
    except Exception as exc:  # noqa: BLE001  # as above
        return exc
    raise AssertionError(f"ended cleanly after {len(released)} pieces")
