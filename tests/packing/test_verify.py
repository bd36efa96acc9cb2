"""Archives that are whole, damaged, thin or lies, with and without a key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loader.binary_split import open_archive
from loader.crypto.archive import archive_start
from loader.crypto.archive_head import GZIP, PLAIN, Blob, Head, StoredHead
from loader.crypto.archive_seals import Seals
from loader.crypto.json_header import Signature
from loader.errors import ArchiveCorrupt, ArchiveNotFound, KeyMismatch, UntrustedPublisher
from loader.packing.sign import sign
from loader.packing.verify import document, read_index, verify
from loader.publisher_keys import key_text
from tests.packing.packs import unwatched
from tests.support.flips import flip_in_file
from tests.support.handmade_image import FRAGMENT, ROOT, HandmadeImage, HandmadeLayer, seal
from tests.support.publishers import ANNA, BEN, EVE, TRUSTED
from tests.support.thin_archives import holding, release

MIB = 1 << 20
IMAGE = HandmadeImage("verify/app:1", (HandmadeLayer(bytes(range(256)) * 4096, 3), HandmadeLayer(b"small")))
KEYS = pytest.mark.parametrize("key", [None, FRAGMENT], ids=["without a key", "with the key"])


@pytest.fixture(params=[PLAIN, GZIP])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return seal(tmp_path / "images.enc", [IMAGE], codec=request.param)


def blob_of(path: Path, digest: str) -> tuple[int, Blob]:
    """Return the offset of a blob in the archive, and what the head says about it."""
    index = read_index(path)
    return index.offsets[digest], index.head.blob[digest]


@KEYS
def test_a_whole_archive_is_verified(key: bytes | None, archive: Path) -> None:
    assert verify(archive, key, unwatched) == read_index(archive)


@KEYS
@pytest.mark.parametrize("digest", IMAGE.image.blobs)
@pytest.mark.parametrize("place", ["header", "middle", "end"])
def test_a_changed_byte_of_a_blob_is_found(key: bytes | None, digest: str, place: str, archive: Path) -> None:
    offset, blob = blob_of(archive, digest)
    data = bytearray(archive.read_bytes())
    data[offset + {"header": 3, "middle": blob.stored_size // 2, "end": blob.stored_size - 1}[place]] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ArchiveCorrupt):
        verify(archive, key, unwatched)


@KEYS
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"B" + data[1:]])
def test_another_size_or_form_is_found(key: bytes | None, change: object, archive: Path) -> None:
    assert callable(change)
    archive.write_bytes(change(archive.read_bytes()))
    with pytest.raises(ArchiveCorrupt):
        verify(archive, key, unwatched)


def rewrite(path: Path, head: Head, fragment: bytes = FRAGMENT) -> None:
    """Give the archive another head, and seals that fit it, as only the owner of the fragment could."""
    index = read_index(path)
    blobs = path.read_bytes()[min(index.offsets.values()) :]
    stored = StoredHead.of(head)
    path.write_bytes(archive_start(stored, Seals.make(stored, ROOT, fragment), head.blobs) + blobs)


def test_only_the_key_proves_the_author(archive: Path) -> None:
    head = read_index(archive).head
    forged = replace(head, release=replace(head.release, serial=99))
    rewrite(archive, forged, b"f" * 32)
    verify(archive, None, unwatched)
    with pytest.raises(KeyMismatch):
        verify(archive, FRAGMENT, unwatched)


@pytest.mark.parametrize("lie", [{"platform": "linux/arm64"}, {"created": "1999-01-01T00:00:00Z"}])
def test_a_head_that_is_not_what_its_images_say_is_found(lie: dict[str, str], archive: Path) -> None:
    head = read_index(archive).head
    rewrite(archive, replace(head, images=tuple(replace(image, **lie) for image in head.images)))  # type: ignore[arg-type]  # all are texts
    verify(archive, None, unwatched)
    with pytest.raises(ArchiveCorrupt, match="is not the one that its head describes"):
        verify(archive, FRAGMENT, unwatched)


def test_content_without_its_digest_is_found(tmp_path: Path) -> None:
    layer = IMAGE.layers[1]
    lie = b"x" * layer.described[1]
    path = seal(tmp_path / "images.enc", [IMAGE], codec=GZIP, lies={layer.described[0]: lie})
    verify(path, None, unwatched)
    with pytest.raises(ArchiveCorrupt, match="does not have that digest"):
        verify(path, FRAGMENT, unwatched)


def thin(path: Path, *absent: str) -> Path:
    """Remove blobs from an archive, whose head stays as it is."""
    index, data = read_index(path), path.read_bytes()
    kept = [blob for blob in index.head.blobs if blob.digest not in absent]
    parts = [data[index.offsets[blob.digest] :][: blob.stored_size] for blob in kept]
    path.write_bytes(archive_start(index.stored, index.seals, kept) + b"".join(parts))
    return path


@KEYS
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_thin_archive_is_verified_as_far_as_it_goes(key: bytes | None, count: int, archive: Path) -> None:
    absent = IMAGE.image.blobs[:count]
    thin(archive, *absent)
    index = verify(archive, key, unwatched)
    assert {blob.digest for blob in index.absent} == set(absent)


@KEYS
def test_an_absent_file_is_no_archive(key: bytes | None, tmp_path: Path) -> None:
    with pytest.raises(ArchiveNotFound):
        verify(tmp_path / "absent", key, unwatched)


def test_another_key_is_no_damage(archive: Path) -> None:
    with pytest.raises(KeyMismatch):
        verify(archive, b"x" * 32, unwatched)


@KEYS
def test_only_what_a_trusted_publisher_has_signed_is_verified(key: bytes | None, archive: Path) -> None:
    for signer in (None, EVE):
        if signer is not None:
            sign(archive, signer, unwatched)
        with pytest.raises(UntrustedPublisher):
            verify(archive, key, unwatched, TRUSTED)
        verify(archive, key, unwatched)
    sign(archive, ANNA, unwatched)
    verify(archive, key, unwatched, TRUSTED)


def test_a_signature_says_nothing_about_damage(archive: Path) -> None:
    sign(archive, ANNA, unwatched)
    flip_in_file(archive, archive.stat().st_size - 1)
    with pytest.raises(ArchiveCorrupt):
        verify(archive, None, unwatched, TRUSTED)


def test_signatures_are_described_with_names_and_validity(archive: Path) -> None:
    for signer in (ANNA, EVE):
        sign(archive, signer, unwatched)
    index, data = read_index(archive), archive.read_bytes()
    false = Signature(BEN.public, index.seals.signatures[0].signature)
    seals = replace(index.seals, signatures=(*index.seals.signatures, false))
    blobs = data[min(index.offsets.values()) :]
    archive.write_bytes(archive_start(index.stored, seals, index.head.blobs) + blobs)
    anna, eve, ben = (key_text(key.public) for key in (ANNA, EVE, BEN))
    with open_archive(archive) as opened:
        named, unnamed = document(opened, TRUSTED)["signatures"], document(opened)["signatures"]
    assert named == [
        {"key": anna, "name": "anna", "valid": True},
        {"key": eve, "name": None, "valid": True},
        {"key": ben, "name": "ben", "valid": False},
    ]
    assert unnamed == [{**one, "name": None} for one in named]


def test_the_description_is_the_head_with_sizes(archive: Path) -> None:
    thin(archive, IMAGE.image.layers[0])
    with open_archive(archive) as opened:
        index, described = opened.index, document(opened)
    assert described["size"] == archive.stat().st_size
    assert described["complete"] is False
    assert [blob["present"] for blob in described["blobs"]].count(False) == 1
    assert sum(blob["stored_size"] for blob in described["blobs"] if blob["present"]) < described["size"]
    assert described["images"][0]["size"] == sum(layer.described[1] for layer in IMAGE.layers)
    assert described["key_check"] == index.seals.check


def test_a_layer_that_stands_twice_in_an_image_is_unpacked_twice(tmp_path: Path) -> None:
    """As the plan of an unlock counts it."""
    image = HandmadeImage("verify/twice:1", (IMAGE.layers[1], IMAGE.layers[0], IMAGE.layers[1]))
    with open_archive(seal(tmp_path / "images.enc", [image])) as opened:
        described = document(opened)
    assert described["images"][0]["size"] == sum(layer.described[1] for layer in image.layers)


def test_an_archive_whose_blobs_lie_beside_it_is_complete(tmp_path: Path) -> None:
    old, new = release(tmp_path / "old.enc", 1), release(tmp_path / "new.enc", 2)
    path = holding(tmp_path / "images.enc", new, old)
    with open_archive(path) as opened:
        described = document(opened)
    assert described["complete"] is True
    assert [blob["present"] for blob in described["blobs"]].count(False) == 4
