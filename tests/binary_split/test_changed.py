"""Files that change while they are read, and gzip of another content: no byte more is released than was proven."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from loader.binary_split import Archive, open_archive
from loader.errors import ArchiveCorrupt
from tests.binary_split.images import LARGE, MIB
from tests.crypto.reference import pattern
from tests.crypto.reference_archive import FRAGMENT as REFERENCE_FRAGMENT
from tests.crypto.reference_archive import ReferenceBlob, ReferenceImage, archive_of, digest, stored_gzip
from tests.crypto.whole_archive import authenticate_all, nothing
from tests.support.flips import flip_in_file
from tests.support.handmade_image import FRAGMENT


def read_to_failure(pieces: Iterable[bytes | memoryview]) -> tuple[bytes, str]:
    """Return what came before the ArchiveCorrupt that must come, and its text."""
    released = bytearray()
    try:
        for piece in pieces:
            released += piece
    except ArchiveCorrupt as exc:
        return bytes(released), str(exc)
    raise AssertionError("nothing was refused")


LARGE_TAR = b"".join(LARGE.content())


@pytest.mark.parametrize("piece", range(6))
@pytest.mark.parametrize("within", [0, 40, 777, MIB - 1])
def test_a_piece_that_changed_after_it_was_authenticated_is_not_released(path: Path, piece: int, within: int) -> None:
    with open_archive(path) as archive:
        contents = archive.unseal(FRAGMENT, nothing)
        authenticate_all(contents)
        large = LARGE.described[0]
        stored = archive.head.blob[large].stored_size
        flip_in_file(path, archive.index.offsets[large] + min(piece * MIB + within, stored - 1))
        released, text = read_to_failure(contents.content(large))
    assert f"the blob {large} changed while it was read" in text
    assert LARGE_TAR.startswith(released)
    assert len(released) <= piece * MIB


def test_authentic_bytes_of_another_moment_are_refused(path: Path) -> None:
    """The file is replaced in place by another archive of the same root: every tag would be right."""
    one = ReferenceImage("a.b/c:1", (ReferenceBlob(pattern(3 * MIB)),))
    other = ReferenceImage("a.b/c:1", (ReferenceBlob(pattern(3 * MIB)[::-1]),))
    path.write_bytes(archive_of([one]))
    with open_archive(path) as archive:
        contents = archive.unseal(REFERENCE_FRAGMENT, nothing)
        authenticate_all(contents)
        with path.open("r+b") as file:
            file.write(archive_of([other]))
        released, _ = read_to_failure(contents.content(digest(pattern(3 * MIB))))
    assert released == b""


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_file_that_is_cut_while_it_is_read_is_damaged(path: Path, kept: int) -> None:
    with open_archive(path) as archive:
        contents = archive.unseal(FRAGMENT, nothing)
        authenticate_all(contents)
        large = LARGE.described[0]
        os.truncate(path, archive.index.offsets[large] + kept * MIB + 5)
        released, text = read_to_failure(contents.content(large))
        assert "the ciphertext is cut short" in text
        assert LARGE_TAR.startswith(released)
        assert len(released) <= kept * MIB
        with pytest.raises(ArchiveCorrupt, match="it was cut short while it was read"):
            list(archive.unseal(FRAGMENT, nothing).authenticate(large))


def test_a_file_that_is_cut_before_it_is_authenticated_is_damaged(path: Path, opened: Archive) -> None:
    os.truncate(path, opened.index.size - 1)
    last = opened.head.blobs[-1].digest
    with pytest.raises(ArchiveCorrupt, match="it was cut short while it was read"):
        list(opened.unseal(FRAGMENT, nothing).authenticate(last))


LAYER = pattern(700)
WRONG_GZIP = {
    "a byte more": (stored_gzip(LAYER + b"x"), "holds more than it announces"),
    "another member": (stored_gzip(LAYER) + stored_gzip(b"x"), "holds more than it announces"),
    "a byte less": (stored_gzip(LAYER[:-1]), "holds less than it announces"),
    "cut": (stored_gzip(LAYER)[:-1], "gzip is cut short"),
    "bytes behind": (stored_gzip(LAYER) + b"xy", "gzip is"),
    "plain": (LAYER, "gzip is damaged"),
}


@pytest.mark.parametrize(("packed", "reason"), WRONG_GZIP.values(), ids=WRONG_GZIP)
def test_authentic_gzip_of_another_content_releases_no_more_than_announced(
    path: Path, packed: bytes, reason: str
) -> None:
    path.write_bytes(archive_of([ReferenceImage("a.b/c:1", (ReferenceBlob(LAYER, packed),))]))
    with open_archive(path) as archive:
        contents = archive.unseal(REFERENCE_FRAGMENT, nothing)
        authenticate_all(contents)
        released, text = read_to_failure(contents.content(digest(LAYER)))
    assert reason in text
    assert LAYER.startswith(released)
