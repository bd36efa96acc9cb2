"""Everything that a device does with an archive before and while it sends it to an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from loader.binary_split import Contents, open_archive
from loader.errors import ArchiveCorrupt, LoaderError
from tests.crypto.reference_archive import FRAGMENT

Released = dict[str, bytearray]


def nothing() -> None:
    """A checkpoint that never raises."""


def read_all(path: Path, released: Released, fragment: bytes = FRAGMENT) -> None:
    """Add the content of every blob to `released` as it comes, after all of them were authenticated."""
    with open_archive(path) as archive:
        archive.require_complete()
        archive.require_fragment(fragment)
        contents = archive.unseal(fragment, nothing)
        authenticate_all(contents)
        for blob in contents.head.blobs:
            for piece in contents.content(blob.digest):
                released.setdefault(blob.digest, bytearray()).extend(piece)


def authenticate_all(contents: Contents) -> None:
    """Authenticate every blob."""
    for blob in contents.head.blobs:
        for _ in contents.authenticate(blob.digest):
            pass


def contents_of(path: Path, fragment: bytes = FRAGMENT) -> list[bytes]:
    """Return the content of every blob in the order of the head."""
    released: Released = {}
    read_all(path, released, fragment)
    return [bytes(content) for content in released.values()]


def refusal(path: Path, data: bytes, expected: type[LoaderError] = ArchiveCorrupt, fragment: bytes = FRAGMENT) -> str:
    """Return how `data` is refused at `path`, which must be as `expected` and before a byte of content."""
    path.write_bytes(data)
    released: Released = {}
    with pytest.raises(expected) as caught:
        read_all(path, released, fragment)
    assert type(caught.value) is expected
    assert released == {}
    return str(caught.value)
