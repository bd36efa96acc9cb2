"""A huge model of which only a few segments were sealed: what lies between them is a hole in the file of the cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from loader.crypto.model_parts import HEAD_SIZE, BigPart, ResourceName, SealedModel, new_object
from loader.crypto.segments import (
    FIRST_PLAINTEXT_SIZE,
    HEADER_SIZE,
    PLAINTEXT_SIZE,
    SEGMENT_SIZE,
    TAG_SIZE,
    SegmentCipher,
    ciphertext_size,
    segment_begin,
)
from loader.crypto.streaming_aead import random_header
from tests.support.sealed_objects import EDITION

KEY = bytes(range(32))
# The cache believes the name of a whole part, so the digest of a file with holes need not be right.
DIGEST = "5" * 64
PATTERN = bytes(range(251)) * 2048


@dataclass(frozen=True)
class SparseModel:
    """The small object as it is stored. The plaintext of a sealed segment repeats PATTERN from the segment's start."""

    small: bytes

    @staticmethod
    def plaintext(begin: int, size: int) -> bytes:
        """Return `size` bytes from `begin` on, which lie in one sealed segment."""
        offset = (begin - segment_begin((begin + HEADER_SIZE) // PLAINTEXT_SIZE)) % len(PATTERN)
        return (PATTERN * 3)[offset : offset + size]


def cache_sparse_model(models: Path, name: ResourceName, size: int, segments: Iterable[int]) -> SparseModel:
    """Put the big part of a model of `size` bytes into the cache `models`, with the first and these segments sealed.

    None of `segments` is the last one.
    """
    header, total = random_header(), ciphertext_size(size)
    cipher = SegmentCipher.derive(header, KEY, name.path.encode())
    first = header + _sealed(cipher, 0, FIRST_PLAINTEXT_SIZE)
    with (models / f"{DIGEST}.big").open("wb") as big:
        big.truncate(total - HEAD_SIZE)
        big.write(first[HEAD_SIZE:])
        for number in segments:
            if number:
                big.seek(number * SEGMENT_SIZE - HEAD_SIZE)
                big.write(_sealed(cipher, number, PLAINTEXT_SIZE))
    part = BigPart(total - HEAD_SIZE, DIGEST, new_object())
    return SparseModel(SealedModel(KEY, size, part, first[:HEAD_SIZE]).described(EDITION).to_bytes())


def _sealed(cipher: SegmentCipher, number: int, size: int) -> bytes:
    text = (PATTERN * 3)[:size] + bytes(TAG_SIZE)
    return bytes(cipher.seal(number, False, memoryview(bytearray(text))))
