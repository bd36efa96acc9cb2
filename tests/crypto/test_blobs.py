"""Blobs of an archive: the same bytes under the same root are the same ciphertext, and nothing else opens it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace

import pytest

from loader.crypto.archive_head import Blob, Packed
from loader.crypto.blobs import open_blob, seal_blob
from loader.errors import CorruptCiphertext
from tests.crypto.reference import MIB, pattern
from tests.crypto.reference_archive import ROOT, ReferenceBlob
from tests.crypto.streams import BOUNDARY_SIZES, collect, read_all, read_to_failure
from tests.support.flips import flipped

OTHER_ROOT = pattern(32)
TEXT = pattern(2 * MIB)
BLOB = Blob.parse(ReferenceBlob(TEXT).entry())
STORED = ReferenceBlob(TEXT).stored()


def packed_of(data: bytes) -> Packed:
    return Packed(hashlib.sha256(data).hexdigest(), len(data))


def sealed(data: bytes, root: bytes = ROOT) -> bytes:
    return b"".join(map(bytes, seal_blob([data], packed_of(data), root)))


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
def test_a_blob_has_exactly_the_documented_bytes(size: int) -> None:
    reference = ReferenceBlob(pattern(size))
    assert sealed(pattern(size)) == reference.stored()
    blob = Blob.parse(reference.entry())
    assert blob.stored_size == len(reference.stored())
    assert read_all(open_blob(io.BytesIO(reference.stored()), blob, ROOT)) == pattern(size)


def test_pieces_do_not_change_the_ciphertext() -> None:
    pieces = [TEXT[:7], b"", TEXT[7:MIB], TEXT[MIB:]]
    assert b"".join(map(bytes, seal_blob(pieces, packed_of(TEXT), ROOT))) == STORED


def test_other_bytes_and_other_roots_have_other_headers_and_texts() -> None:
    ciphertexts = [sealed(bytes(100)), sealed(bytes(101)), sealed(bytes(99) + b"x"), sealed(bytes(100), OTHER_ROOT)]
    assert len({ciphertext[:40] for ciphertext in ciphertexts}) == 4
    assert len({ciphertext[40:80] for ciphertext in ciphertexts}) == 4


def test_the_codec_and_the_content_do_not_change_the_ciphertext() -> None:
    """Only the bytes that are sealed count, so that a layer that is gzip in one head may be plain in another."""
    assert ReferenceBlob(b"content", TEXT).stored() == STORED


WRONG = {
    "another root": (BLOB, OTHER_ROOT),
    "one bit of the root": (BLOB, ROOT[:-1] + bytes([ROOT[-1] ^ 1])),
    "another digest": (replace(BLOB, packed=replace(BLOB.packed, sha256="0a" * 32)), ROOT),
    "a byte less": (replace(BLOB, packed=replace(BLOB.packed, size=BLOB.packed.size - 1)), ROOT),
    "a byte more": (replace(BLOB, packed=replace(BLOB.packed, size=BLOB.packed.size + 1)), ROOT),
}


@pytest.mark.parametrize(("blob", "root"), WRONG.values(), ids=WRONG)
def test_a_blob_of_something_else_is_refused_before_its_first_byte(blob: Blob, root: bytes) -> None:
    failed = read_to_failure(lambda: open_blob(io.BytesIO(STORED), blob, root))
    assert isinstance(failed.failure, CorruptCiphertext)
    assert failed.released == []


@pytest.mark.parametrize("position", [0, 1, 33, 39, 40, MIB - 1, MIB, len(STORED) - 1])
def test_a_changed_byte_is_refused(position: int) -> None:
    failed = read_to_failure(lambda: open_blob(io.BytesIO(flipped(STORED, position)), BLOB, ROOT))
    assert isinstance(failed.failure, CorruptCiphertext)
    assert b"".join(failed.released) == TEXT[: sum(map(len, failed.released))]
    assert sum(map(len, failed.released)) <= position


def test_packed_bytes_that_fail_are_not_sealed() -> None:
    def failing() -> Iterator[bytes]:
        yield TEXT[:MIB]
        raise OSError("the engine is gone")

    written = bytearray()
    with pytest.raises(OSError, match="the engine is gone"):
        collect(seal_blob(failing(), BLOB.packed, ROOT), written)
    failed = read_to_failure(lambda: open_blob(io.BytesIO(written), BLOB, ROOT))
    assert isinstance(failed.failure, CorruptCiphertext)
