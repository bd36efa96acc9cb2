"""Archives that are damaged, lie, or change after they were opened."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from loader.binary_split import Archive, open_archive
from loader.crypto.archive_head import GZIP
from loader.crypto.blobs import associated_data, blob_key
from loader.crypto.streaming_aead import encrypt
from loader.errors import ArchiveCorrupt
from loader.oci import Layout
from loader.unlock.delivery import Delivery, StreamDelivery
from tests.support.handmade_image import FRAGMENT, ROOT, seal
from tests.unlock.delivery.deliveries import (
    IMAGES,
    MIB,
    TOP,
    Make,
    assert_is,
    by_file,
    damage,
    each_codec,
    layouts,
    nothing,
    take_into,
    taken,
    top_layer,
)


def prepare_and_take(got: bytearray, delivery: Delivery, layout: Layout) -> None:
    delivery.prepare(FRAGMENT, nothing)
    take_into(got, delivery, layout)


def assert_delivers_nothing(delivery: Delivery, archive: Archive, tar: Path) -> None:
    """Require that a delivery whose preparation has failed gives no piece and leaves no tar."""
    with pytest.raises(RuntimeError):
        next(delivery.pieces(layouts(archive)[0]))
    delivery.close()
    assert not tar.exists()


@pytest.mark.parametrize("piece", range(4))
def test_a_damaged_piece_ends_the_preparation_before_any_delivery(
    archive: Archive, make: Make, tar: Path, piece: int
) -> None:
    damage(archive, top_layer(archive), piece)
    delivery = make(archive, nothing)
    # Mode tar decrypts in the same pass, so that the cipher notices the damage first.
    noticed = f"the blob {top_layer(archive)} is not the one that its head names|segment {piece} does not authenticate"
    with pytest.raises(ArchiveCorrupt, match=noticed):
        delivery.prepare(FRAGMENT, nothing)
    assert_delivers_nothing(delivery, archive, tar)


def test_a_blob_that_the_cipher_accepts_must_still_be_the_one_of_the_head(
    archive: Archive, make: Make, tar: Path
) -> None:
    """Whoever has the root can seal the same bytes under another header: they decrypt, but are stored otherwise."""
    blob = archive.head.blob[top_layer(archive)]
    sealed_anew = encrypt(TOP.content(), blob_key(blob.packed, ROOT), associated_data(blob.packed))
    with archive.path.open("r+b") as file:
        file.seek(archive.index.offsets[blob.digest])
        file.writelines(sealed_anew)
    delivery = make(archive, nothing)
    with pytest.raises(ArchiveCorrupt, match=f"the blob {blob.digest} is not the one that its head names"):
        delivery.prepare(FRAGMENT, nothing)
    assert_delivers_nothing(delivery, archive, tar)


def test_a_fragment_that_only_the_key_check_accepts_authenticates_nothing(
    archive: Archive, make: Make, tar: Path
) -> None:
    """The key check only gives an early error; the MAC of the head protects."""
    delivery = make(archive, nothing)
    reached: list[int] = []
    with pytest.raises(ArchiveCorrupt):
        delivery.prepare(b"x" * 32, reached.append)
    assert reached == []
    delivery.close()
    assert not tar.exists()


@each_codec
@pytest.mark.parametrize("digest", ["manifest", "config", "layer"])
def test_an_archive_that_changes_between_the_passes_ends_the_stream(archive: Archive, digest: str) -> None:
    image = archive.head.images[0]
    digests = {"manifest": image.manifest, "config": image.config, "layer": image.layers[1]}
    delivery = StreamDelivery(archive, layouts(archive), nothing)
    delivery.prepare(FRAGMENT, nothing)
    damage(archive, digests[digest], 0)
    got = bytearray()
    with pytest.raises(ArchiveCorrupt, match=f"the blob {digests[digest]} changed while it was read"):
        take_into(got, delivery, layouts(archive)[0])
    # The header of the member was sent, but no byte of the changed blob.
    assert digests[digest].removeprefix("sha256:").encode() in got[-tarfile.BLOCKSIZE :]


@pytest.mark.parametrize("planned", [True, False])
def test_an_archive_that_changes_after_the_preparation_changes_nothing_in_the_tar(
    archive: Archive, tar: Path, planned: bool
) -> None:
    """What was written is sent. A layout that is written later is compared piece by piece."""
    delivery = by_file(archive, tar)
    delivery.prepare(FRAGMENT, nothing)
    damage(archive, top_layer(archive), 2)
    layout = layouts(archive)[0]
    assert_is(taken(delivery, layout), layout)
    if not planned:
        with pytest.raises(ArchiveCorrupt, match="is damaged"):
            taken(delivery, layout)
    delivery.close()
    assert not tar.exists()


def test_an_archive_that_is_cut_between_the_passes_ends_the_stream(archive: Archive) -> None:
    delivery = StreamDelivery(archive, layouts(archive), nothing)
    delivery.prepare(FRAGMENT, nothing)
    os.truncate(archive.path, archive.index.offsets[top_layer(archive)] + MIB)
    with pytest.raises(ArchiveCorrupt, match="cut short"):
        taken(delivery, layouts(archive)[0])


@pytest.mark.parametrize("content", [bytes(50 * MIB), b"short"], ids=["bomb", "short"])
def test_a_blob_of_another_size_than_the_head_says_ends_the_delivery(
    tmp_path: Path, tar: Path, content: bytes, make: Make
) -> None:
    """Whoever has the fragment can seal such a blob; the loader inflates no byte more than its head announces."""
    layer = IMAGES[1].image.layers[0]
    path = seal(tmp_path / "lying.enc", IMAGES[1:], codec=GZIP, lies={layer: content})
    with open_archive(path) as lying:
        delivery = make(lying, nothing)
        got = bytearray()
        with pytest.raises(ArchiveCorrupt, match=r"its gzip holds (more|less) than it announces"):
            prepare_and_take(got, delivery, layouts(lying)[0])
        assert len(got) < layouts(lying)[0].size
        delivery.close()
    assert not tar.exists()
