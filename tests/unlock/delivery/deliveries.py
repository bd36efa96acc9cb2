"""Deliveries of an archive of two images, and what a test does with them."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from loader.binary_split import Archive
from loader.crypto.archive_head import GZIP, PLAIN
from loader.oci import Layout
from loader.unlock.delivery import Delivery, TarDelivery
from loader.unlock.layers import layouts_of
from tests.support.flips import flip_in_file
from tests.support.handmade_image import HandmadeImage, HandmadeLayer

MIB = 1 << 20
BASE = HandmadeLayer(os.urandom(1000), 1, "base.bin")
TOP = HandmadeLayer(os.urandom(MIB), 3, "top.bin")
# The layer of the second image is at the bottom of the first one too, so that its layout holds no layer.
IMAGES = (HandmadeImage("app:1.4", (BASE, TOP)), HandmadeImage("database:9", (BASE,)))

# A test with this mark runs with an archive of each codec.
each_codec = pytest.mark.parametrize("archive", [PLAIN, GZIP], indirect=True)

Make = Callable[[Archive, Callable[[], None]], Delivery]


def nothing(*_: object) -> None:
    """Do nothing, as a checkpoint or as a callback."""


def by_file(archive: Archive, tar: Path, checkpoint: Callable[[], None] = nothing) -> TarDelivery:
    """Return a delivery in mode `tar`, of what an engine without images gets."""
    return TarDelivery(archive, layouts(archive), tar, checkpoint)


def layouts(archive: Archive) -> tuple[Layout, ...]:
    """Return what an engine without images gets."""
    return tuple(layouts_of(archive.head, set()))


def take_into(got: bytearray, delivery: Delivery, layout: Layout, after_piece: Callable[[], None] = nothing) -> None:
    """Add the pieces of a layout to `got` until an error ends them."""
    for piece in delivery.pieces(layout):
        got += piece
        after_piece()


def whole(archive: Archive, number: int) -> Layout:
    """Return the layout of an image with all of its layers."""
    image = archive.head.images[number]
    return Layout(archive.head, image, image.layers)


def without_lower_layer(archive: Archive) -> Layout:
    """Return the layout of the first image for an engine that has its lower layer."""
    return Layout(archive.head, archive.head.images[0], (top_layer(archive),))


def taken(delivery: Delivery, layout: Layout) -> bytes:
    """Return the whole tar of a layout."""
    return b"".join(map(bytes, delivery.pieces(layout)))


def members(data: bytes) -> dict[str, bytes]:
    """Return the files of a tar, which must be whole and nothing else."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as opened:
        files = {entry.name: opened.extractfile(entry).read() for entry in opened}  # type: ignore[union-attr]
        assert data[opened.offset :].strip(b"\0") == b""
    return files


def assert_is(data: bytes, layout: Layout) -> None:
    """Require that `data` is the tar of `layout`: its listings, and each blob with the content of its digest."""
    files = members(data)
    blobs = [f"blobs/sha256/{digest.removeprefix('sha256:')}" for digest in layout.blobs]
    assert list(files) == ["oci-layout", "index.json", "manifest.json", *blobs]
    assert [hashlib.sha256(files[name]).hexdigest() for name in blobs] == [name.rpartition("/")[2] for name in blobs]
    assert len(data) == layout.size


def top_layer(archive: Archive) -> str:
    """Return the digest of the layer of more than 3 MiB."""
    return archive.head.images[0].layers[1]


def damage(archive: Archive, digest: str, piece: int) -> None:
    """Change one bit of a piece of a stored blob while the archive is open."""
    flip_in_file(archive.path, archive.index.offsets[digest] + piece * MIB + 60)
