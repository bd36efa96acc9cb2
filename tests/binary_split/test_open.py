"""An archive on the disk: identified, opened and checked."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from loader.binary_split import Archive, identify, open_archive
from loader.errors import (
    ArchiveCorrupt,
    ArchiveIncomplete,
    ArchiveNotFound,
    KeyMismatch,
    StorageError,
    VersionMismatch,
)
from tests.binary_split.images import IMAGES
from tests.crypto.archive_vectors import APP, thin
from tests.crypto.reference_archive import digest
from tests.support.handmade_image import FRAGMENT, seal
from tests.support.procfs import open_descriptors


def read_all(path: Path) -> None:
    with open_archive(path):
        pass


def test_a_missing_file_has_no_identity(tmp_path: Path) -> None:
    assert identify(tmp_path / "images.enc") is None
    assert identify(tmp_path / "no directory" / "images.enc") is None


def test_a_path_through_a_file_is_a_storage_error(path: Path) -> None:
    for use in (identify, read_all):
        with pytest.raises(StorageError, match="Not a directory"):
            use(path / "images.enc")


def test_a_file_keeps_its_identity_until_it_is_replaced_or_written(path: Path) -> None:
    first = identify(path)
    assert first == identify(path)
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    copy.replace(path)
    second = identify(path)
    assert second != first
    path.write_bytes(path.read_bytes())
    assert identify(path) != second


def test_an_opened_archive_knows_which_file_it_is(path: Path) -> None:
    before = identify(path)
    with open_archive(path) as archive:
        path.unlink()
        assert archive.identity == before
        assert archive.head.images == tuple(image.image for image in IMAGES)


def test_a_missing_archive_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ArchiveNotFound, match=str(tmp_path)):
        read_all(tmp_path / "images.enc")
    (tmp_path / "images.enc").symlink_to("nowhere")
    with pytest.raises(ArchiveNotFound):
        read_all(tmp_path / "images.enc")


def test_a_symbolic_link_to_an_archive_is_followed(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with open_archive(link) as archive:
        assert archive.identity == identify(path) == identify(link)


def test_a_symbolic_link_to_itself_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "images.enc").symlink_to("images.enc")
    with pytest.raises(StorageError, match="symbolic links"):
        read_all(tmp_path / "images.enc")


@pytest.mark.timeout(20)  # a pipe that is opened in the usual way waits for a writer, forever
@pytest.mark.parametrize("kind", ["directory", "pipe", "device"])
def test_what_is_no_file_is_no_archive(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "images.enc"
    if kind == "directory":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    before = open_descriptors(os.getpid())
    with pytest.raises(ArchiveCorrupt, match="is damaged: it is not a regular file"):
        read_all(place)
    assert open_descriptors(os.getpid()) == before


def test_a_socket_is_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("images.enc")
        with pytest.raises(ArchiveCorrupt, match="it is not a regular file"):
            read_all(tmp_path / "images.enc")


def test_an_empty_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "images.enc").touch()
    with pytest.raises(ArchiveCorrupt, match="does not start with AZIMAGE2"):
        read_all(tmp_path / "images.enc")


def test_an_archive_of_the_wrong_size_is_refused_at_once(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArchiveCorrupt, match=r"is damaged: it has \d+ bytes instead of \d+"):
        read_all(path)


def test_the_version_is_that_of_the_release(path: Path, opened: Archive) -> None:
    opened.require_version("1.4")
    opened.require_version("latest")
    for version in ("1", "1.40", "9", "Latest", ""):
        with pytest.raises(
            VersionMismatch, match=rf"The archive is release 1\.4, but the device wants version {version}"
        ):
            opened.require_version(version)
    seal(path, IMAGES, version="2026-03")
    with open_archive(path) as archive:
        archive.require_version("2026-03")


@pytest.mark.parametrize("other", [b"", FRAGMENT[:-1], FRAGMENT + b"x", b"x" * 32, b"x" * 4097], ids=len)
def test_only_the_fragment_of_the_archive_matches(opened: Archive, other: bytes) -> None:
    opened.require_fragment(FRAGMENT)
    with pytest.raises(KeyMismatch):
        opened.require_fragment(other)


def test_a_thin_archive_is_incomplete(path: Path, opened: Archive) -> None:
    opened.require_complete()
    layer = APP.layers[0]
    path.write_bytes(thin([digest(APP.manifest.content), digest(APP.config.content)]))
    with open_archive(path) as archive:
        with pytest.raises(ArchiveIncomplete, match=f"lacks 1 blobs of {len(layer.stored())} bytes"):
            archive.require_complete()
        assert [blob.digest for blob in archive.index.absent] == [digest(layer.content)]
