"""The same head and the same blobs under another key fragment."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loader.errors import ArchiveCorrupt, KeyMismatch, ValidationFailed
from loader.packing.rewrap import rewrap
from loader.packing.verify import read_index, verify
from tests.packing.packs import unwatched
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal

IMAGE = HandmadeImage("rewrap/app:1", (HandmadeLayer(bytes(1 << 20), 3),))
OTHER = b"another key fragment that only the tests know"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return seal(tmp_path / "images.enc", [IMAGE])


def test_the_head_file_has_the_new_key_and_no_blob(archive: Path) -> None:
    before = archive.read_bytes()
    path = rewrap(archive, FRAGMENT, OTHER, None, unwatched)
    assert path == archive.with_suffix(".head")
    assert path.stat().st_size < 4096
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    index = verify(path, OTHER, unwatched)
    assert index.stored == read_index(archive).stored
    assert len(index.absent) == len(index.head.blobs)
    assert archive.read_bytes() == before
    with pytest.raises(KeyMismatch):
        verify(path, FRAGMENT, unwatched)


@pytest.mark.parametrize("place", ["other.enc", "images.enc"])
def test_the_whole_archive_has_the_new_key(place: str, archive: Path) -> None:
    old = read_index(archive)
    data = archive.read_bytes()[min(old.offsets.values()) :]
    path = rewrap(archive, FRAGMENT, OTHER, archive.parent / place, unwatched)
    index = verify(path, OTHER, unwatched)
    assert index.stored == old.stored
    assert not index.absent
    assert path.read_bytes().endswith(data)
    assert verify(rewrap(path, OTHER, FRAGMENT, path, unwatched), FRAGMENT, unwatched) is not None


def test_a_head_file_can_be_rewrapped_again(archive: Path) -> None:
    path = rewrap(archive, FRAGMENT, OTHER, None, unwatched)
    assert rewrap(path, OTHER, FRAGMENT, None, unwatched) == path
    assert rewrap(path.rename(archive.parent / "x"), FRAGMENT, OTHER, None, unwatched).name == "x.head"


def test_a_damaged_blob_is_not_copied(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[-1] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ArchiveCorrupt):
        rewrap(archive, FRAGMENT, OTHER, archive.parent / "other.enc", unwatched)
    assert os.listdir(archive.parent) == ["images.enc"]  # noqa: PTH208  # hidden files count


def test_another_key_changes_nothing(archive: Path) -> None:
    with pytest.raises(KeyMismatch):
        rewrap(archive, OTHER, FRAGMENT, archive, unwatched)
    assert verify(archive, FRAGMENT, unwatched) is not None
    assert os.listdir(archive.parent) == ["images.enc"]  # noqa: PTH208  # hidden files count


def test_a_head_never_replaces_blobs_or_a_foreign_file(archive: Path) -> None:
    whole = archive.rename(archive.with_suffix(".head"))
    before = whole.read_bytes()
    with pytest.raises(ValidationFailed, match="holds blobs"):
        rewrap(whole, FRAGMENT, OTHER, None, unwatched)
    assert whole.read_bytes() == before
    other = seal(archive.with_name("notes.enc"), [IMAGE])
    other.with_suffix(".head").write_bytes(b"notes")
    with pytest.raises(ArchiveCorrupt):
        rewrap(other, FRAGMENT, OTHER, None, unwatched)
    assert other.with_suffix(".head").read_bytes() == b"notes"


@pytest.mark.parametrize("place", ["images.enc", "other.enc"])
@pytest.mark.parametrize("size", [0, 100, 5000, (1 << 20) + 7, (3 << 20) - 1])
def test_an_archive_that_shrinks_meanwhile_is_corrupt(place: str, size: int, archive: Path) -> None:
    @contextmanager
    def shrinking(_label: str, _total: int) -> Iterator[Callable[[int], None]]:
        os.truncate(archive, size)
        yield lambda _: None

    with pytest.raises(ArchiveCorrupt, match="cut short"):
        rewrap(archive, FRAGMENT, OTHER, archive.parent / place, shrinking)
    assert os.listdir(archive.parent) == ["images.enc"]  # noqa: PTH208  # hidden files count


@pytest.mark.parametrize("key", [None, FRAGMENT])
def test_an_archive_that_shrinks_while_it_is_verified_is_corrupt(key: bytes | None, archive: Path) -> None:
    @contextmanager
    def shrinking(_label: str, _total: int) -> Iterator[Callable[[int], None]]:
        os.truncate(archive, 1 << 20)
        yield lambda _: None

    with pytest.raises(ArchiveCorrupt, match="cut short"):
        verify(archive, key, shrinking)


def test_a_head_replaces_the_target_of_a_link(archive: Path) -> None:
    (archive.parent / "heads").mkdir()
    link, target = archive.with_suffix(".head"), archive.parent / "heads" / "1"
    link.symlink_to(target)
    assert rewrap(archive, FRAGMENT, OTHER, None, unwatched) == target
    assert link.is_symlink()
    verify(link, OTHER, unwatched)
