"""Signatures of archives: made while packing or afterwards, and kept by every command that writes the release again."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from loader.binary_split import identify, open_archive
from loader.crypto.archive import archive_start
from loader.crypto.json_header import MAX_SIGNATURES, Signature
from loader.crypto.signatures import SigningKey, is_valid
from loader.errors import ArchiveCorrupt, DiskSpace, UntrustedPublisher, ValidationFailed
from loader.packing.pack import Wishes, pack
from loader.packing.rewrap import rewrap
from loader.packing.sign import sign
from loader.packing.sources import TarSource
from loader.packing.thin import join, thin
from loader.packing.verify import read_index, verify
from tests.packing.packs import unwatched
from tests.support.flips import flip_in_file
from tests.support.handmade_image import FRAGMENT, HandmadeImage, docker_archive
from tests.support.publishers import ANNA, BEN, EVE, TRUSTED, numbered_keys
from tests.support.small_disk import fill, small_disk
from tests.support.thin_archives import index_of, release

OTHER = b"another key fragment that only the tests know"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return release(tmp_path / "images.enc", 1)


def signers(path: Path) -> list[bytes]:
    """Return the keys of the signatures of an archive, all of which are valid."""
    index = index_of(path)
    assert all(is_valid(one, index.stored) for one in index.seals.signatures)
    return [one.key for one in index.seals.signatures]


def give_signatures(path: Path, *signatures: Signature) -> None:
    """Give the archive these signatures, whatever they are."""
    index, data = read_index(path), path.read_bytes()
    blobs = data[min(index.offsets.values()) :]
    path.write_bytes(archive_start(index.stored, replace(index.seals, signatures=signatures), index.head.blobs) + blobs)


def test_a_signature_changes_only_the_seals(archive: Path) -> None:
    before, data = read_index(archive), archive.read_bytes()
    assert sign(archive, ANNA, unwatched) == before.head
    after = verify(archive, FRAGMENT, unwatched, TRUSTED)
    assert after.stored == before.stored
    assert replace(after.seals, signatures=()) == before.seals
    assert archive.read_bytes().endswith(data[min(before.offsets.values()) :])
    assert signers(archive) == [ANNA.public]
    assert stat.S_IMODE(archive.stat().st_mode) == 0o644
    assert os.listdir(archive.parent) == ["images.enc"]  # noqa: PTH208  # hidden files count


def test_further_persons_add_theirs(archive: Path) -> None:
    for key in (ANNA, BEN, EVE):
        sign(archive, key, unwatched)
    assert signers(archive) == [ANNA.public, BEN.public, EVE.public]


def test_a_key_that_has_signed_changes_nothing(archive: Path) -> None:
    for key in (ANNA, BEN):
        sign(archive, key, unwatched)
    before = identify(archive)
    assert sign(archive, ANNA, unwatched) == read_index(archive).head
    assert identify(archive) == before


def test_an_invalid_signature_of_the_same_key_is_replaced(archive: Path) -> None:
    give_signatures(archive, Signature(ANNA.public, bytes(64)), BEN.sign(index_of(archive).stored))
    with pytest.raises(AssertionError):
        signers(archive)
    sign(archive, ANNA, unwatched)
    assert signers(archive) == [BEN.public, ANNA.public]


def test_16_keys_sign_and_no_more(archive: Path) -> None:
    keys = numbered_keys(MAX_SIGNATURES)
    give_signatures(archive, *(key.sign(index_of(archive).stored) for key in keys[:-1]))
    sign(archive, keys[-1], unwatched)
    before = archive.read_bytes()
    with pytest.raises(ValidationFailed, match="16 signatures already"):
        sign(archive, ANNA, unwatched)
    sign(archive, keys[3], unwatched)
    assert archive.read_bytes() == before
    assert len(signers(archive)) == MAX_SIGNATURES


def test_a_thin_archive_is_signed_as_it_is_and_a_head_too(archive: Path) -> None:
    new, delta, head = (archive.parent / name for name in ("new.enc", "delta.enc", "images.head"))
    thin(release(new, 2), archive, delta, unwatched)
    rewrap(archive, FRAGMENT, OTHER, None, unwatched)
    for path in (delta, head):
        offsets = len(index_of(path).offsets)
        sign(path, ANNA, unwatched)
        assert signers(path) == [ANNA.public]
        assert len(index_of(path).offsets) == offsets


def test_thin_join_and_rewrap_keep_signatures(archive: Path) -> None:
    new, delta, whole, wrapped = (archive.parent / f"{name}.enc" for name in ("new", "delta", "whole", "wrapped"))
    for key in (ANNA, EVE):
        sign(release(new, 2) if key is ANNA else new, key, unwatched)
    thin(new, archive, delta, unwatched)
    join(delta, archive, whole, unwatched)
    assert whole.read_bytes() == new.read_bytes()
    rewrap(whole, FRAGMENT, OTHER, wrapped, unwatched)
    head = rewrap(new, FRAGMENT, OTHER, None, unwatched)
    for path in (delta, whole, wrapped, head):
        assert signers(path) == [ANNA.public, EVE.public]
    verify(wrapped, OTHER, unwatched, TRUSTED)


def test_a_signature_does_not_fit_the_next_release(archive: Path) -> None:
    """Also not the same images under another serial."""
    signature = ANNA.sign(index_of(archive).stored)
    later = release(archive.parent / "later.enc", 2)
    give_signatures(later, signature)
    with pytest.raises(UntrustedPublisher):
        verify(later, FRAGMENT, unwatched, TRUSTED)


def test_a_link_stays_and_its_target_is_replaced(archive: Path) -> None:
    link = archive.parent / "link.enc"
    link.symlink_to(archive)
    sign(link, ANNA, unwatched)
    assert link.is_symlink()
    assert signers(archive) == [ANNA.public]


def test_a_damaged_blob_is_not_copied(archive: Path) -> None:
    flip_in_file(archive, archive.stat().st_size - 1)
    before = archive.read_bytes()
    with pytest.raises(ArchiveCorrupt):
        sign(archive, ANNA, unwatched)
    assert archive.read_bytes() == before
    assert os.listdir(archive.parent) == ["images.enc"]  # noqa: PTH208  # hidden files count


def test_a_full_disk_leaves_the_archive_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8 << 20) as disk:
        archive = release(disk / "images.enc", 1)
        before = archive.read_bytes()
        fill(disk, leave=1 << 20)
        with pytest.raises(DiskSpace):
            sign(archive, ANNA, unwatched)
        assert archive.read_bytes() == before
        assert sorted(os.listdir(disk)) == ["filler", "images.enc"]  # noqa: PTH208  # hidden files count


@pytest.mark.parametrize("keys", [(), (ANNA,), (BEN, ANNA), tuple(numbered_keys(MAX_SIGNATURES))], ids=len)
def test_a_packed_archive_has_the_signatures_that_were_wished(keys: tuple[SigningKey, ...], tmp_path: Path) -> None:
    (tmp_path / "source.tar").write_bytes(b"".join(docker_archive(HandmadeImage("app:3"))))
    output = tmp_path / "images.enc"
    pack(TarSource(tmp_path / "source.tar", [], None), Wishes(signers=keys), FRAGMENT, output, unwatched)
    assert signers(output) == [key.public for key in keys]
    with open_archive(output) as archive:
        assert archive.unseal(FRAGMENT, lambda: None).head == archive.head
