"""Blobs that lie in the directory of an archive: found, read, and no others."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from loader.binary_split import open_archive
from loader.blob_directory import blob_directory, remove_other_blobs
from loader.crypto.archive_head import Blob
from loader.errors import ArchiveCorrupt, ArchiveIncomplete
from loader.packing.verify import verify
from tests.packing.packs import contents, unwatched
from tests.support.flips import flip_in_file
from tests.support.handmade_image import FRAGMENT
from tests.support.procfs import open_descriptors
from tests.support.thin_archives import holding, index_of, release


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return release(tmp_path / "old.enc", 1)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return release(tmp_path / "new.enc", 2)


@pytest.fixture
def thin(tmp_path: Path, old: Path, new: Path) -> Path:
    """A thin archive of release 2 at `images.enc`, with the other blobs in its directory."""
    return holding(tmp_path / "images.enc", new, old)


def blobs_of(thin: Path) -> dict[Blob, Path]:
    return {blob: thin.with_suffix(".blobs") / blob.stored for blob in index_of(thin).absent}


@pytest.mark.parametrize(
    ("archive", "directory"),
    [("images.enc", "images.blobs"), ("images", "images.blobs"), ("a.b.enc", "a.b.blobs"), (".enc", ".blobs")],
)
def test_the_directory_lies_beside_the_archive(archive: str, directory: str, tmp_path: Path) -> None:
    assert blob_directory(tmp_path / archive) == tmp_path / directory


def test_the_directory_lies_beside_the_target_of_a_link(thin: Path, new: Path) -> None:
    (thin.parent / "links").mkdir()
    link = thin.parent / "links" / "images.enc"
    link.symlink_to(thin)
    assert contents(link) == contents(new)


def test_an_archive_with_its_blobs_beside_it_reads_as_a_whole_one(thin: Path, new: Path) -> None:
    with open_archive(thin) as archive:
        archive.require_complete()
        assert archive.absent == ()
        digests = [blob.digest for blob in archive.head.blobs]
        with closing(archive.digests_ahead(digests, lambda: None)) as ahead:
            made = {digest: found.hex() for digest, found in ahead.results(lambda _: None)}
        assert made == {blob.digest: blob.stored for blob in archive.head.blobs}
    assert contents(thin) == contents(new)
    verify(thin, FRAGMENT, unwatched)


def test_the_files_stay_open_as_long_as_the_archive(thin: Path) -> None:
    before = open_descriptors(os.getpid())
    with open_archive(thin) as archive:
        for path in blobs_of(thin).values():
            path.unlink()
        opened = archive.unseal(FRAGMENT, lambda: None)
        for blob in archive.head.blobs:
            for _ in opened.authenticate(blob.digest):
                pass
    assert open_descriptors(os.getpid()) == before


def _removed(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_link(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("other")))


def _a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.timeout(20)  # a pipe that is opened in the usual way waits for a writer, forever
@pytest.mark.parametrize("change", [_removed, _cut, _longer, _a_directory, _a_link, _a_pipe])
def test_a_blob_without_a_regular_file_of_its_size_is_absent(change: Callable[[Path], None], thin: Path) -> None:
    blob, path = next(iter(blobs_of(thin).items()))
    change(path)
    before = open_descriptors(os.getpid())
    with open_archive(thin) as archive:
        assert archive.absent == (blob,)
        with pytest.raises(ArchiveIncomplete, match=f"lacks 1 blobs of {blob.stored_size} bytes"):
            archive.require_complete()
    assert open_descriptors(os.getpid()) == before


@pytest.mark.parametrize("kind", ["absent", "a file", "a link to itself"])
def test_without_the_directory_the_blobs_are_absent(kind: str, thin: Path) -> None:
    directory = thin.with_suffix(".blobs")
    directory.rename(thin.parent / "moved")
    if kind == "a file":
        directory.touch()
    elif kind == "a link to itself":
        directory.symlink_to(directory)
    with open_archive(thin) as archive:
        assert archive.absent == archive.index.absent != ()


def test_the_bytes_of_a_blob_are_compared_as_those_in_the_file(thin: Path) -> None:
    path = max(blobs_of(thin).values(), key=lambda path: path.stat().st_size)
    flip_in_file(path, 1 << 20)
    with pytest.raises(ArchiveCorrupt):
        verify(thin, None, unwatched)
    with pytest.raises(ArchiveCorrupt):
        contents(thin)


def test_an_archive_that_is_replaced_while_it_is_opened_is_read_anew(
    thin: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its blobs may be gone by the time that they are opened, because its successor does not need them."""
    opened: list[Path] = []

    def replaced(archive: Path) -> Path:
        if not opened:
            opened.append(archive)
            new.replace(thin)
            for path in blobs.values():
                path.unlink()
        return blob_directory(archive)

    blobs = blobs_of(thin)
    monkeypatch.setattr("loader.binary_split.blob_directory", replaced)
    with open_archive(thin) as archive:
        assert archive.index.absent == ()
        assert archive.identity.inode == thin.stat().st_ino


def test_only_blobs_that_nobody_needs_are_removed(thin: Path) -> None:
    (blob, kept), (_, other), *_ = blobs_of(thin).items()
    directory = kept.parent
    for name in ("notes", "A" * 64, "0" * 63, "0" * 65, f".{blob.stored}.notes"):
        (directory / name).touch()
    unfinished = directory / f".{other.name}.abcdefgh"
    unfinished.touch()
    foreign = directory / ("0" * 64)
    foreign.touch()
    remove_other_blobs(directory, [blob])
    assert kept.exists()
    assert not any(path.exists() for path in (other, unfinished, foreign))
    assert len(list(directory.iterdir())) == 6
    remove_other_blobs(directory / "absent", [])
