"""The room that an installation needs, disks that are full or fail, and file systems that share bytes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loader.errors import ArchiveCorrupt, DiskSpace, LoaderError, StorageError
from loader.install import clone, install
from tests.install.device import Device
from tests.packing.packs import contents, unwatched
from tests.support.missing import missing
from tests.support.small_disk import fill, free_bytes, make_read_only, make_writable, mounted, small_disk
from tests.support.thin_archives import MIB, damaged, index_of


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device with release 1 on a disk of its own of 6 MiB."""
    made = Device(tmp_path)
    made.place.parent.rmdir()
    with small_disk(made.place.parent, 6 * MIB):
        made.install(made.full(1))
        yield made


def lacking(path: Path) -> int:
    """Return the stored bytes that a thin archive lacks."""
    return sum(blob.stored_size for blob in index_of(path).absent)


def refused(device: Device, path: Path) -> LoaderError:
    before, free = device.snapshot(), free_bytes(device.place.parent)
    with pytest.raises(LoaderError) as raised:
        device.install(path)
    assert device.snapshot() == before
    assert free_bytes(device.place.parent) == free
    return raised.value


@pytest.mark.parametrize("form", ["thin", "full"])
def test_too_little_room_is_told_before_anything_is_copied(form: str, device: Device) -> None:
    path = device.thin(2, 1) if form == "thin" else device.full(2)
    needed = path.stat().st_size + lacking(path)
    filler = fill(device.place.parent, needed - 64 * 1024)
    error = refused(device, path)
    assert isinstance(error, DiskSpace)
    assert f"{device.place} needs {needed} bytes" in str(error)
    filler.unlink()
    device.install(path)
    device.require_release(2)


def test_an_installation_needs_no_more_room_than_it_says(device: Device) -> None:
    path = device.thin(2, 1)
    # The names, the directory and the last block of each file need some pages more.
    filler = fill(device.place.parent, path.stat().st_size + lacking(path) + 64 * 1024)
    device.install(path)
    filler.unlink()
    device.require_release(2)


def test_blobs_that_nobody_needs_make_room(device: Device) -> None:
    """They are what a killed installation of another archive has left."""
    device.blobs.mkdir()
    (device.blobs / ("0" * 64)).write_bytes(bytes(3 * MIB))
    assert free_bytes(device.place.parent) < lacking(device.thin(2, 1))
    device.install(device.thin(2, 1))
    device.require_release(2)


def test_a_disk_that_cannot_be_written_is_told(device: Device) -> None:
    path = device.thin(2, 1)
    make_read_only(device.place.parent)
    try:
        assert isinstance(refused(device, path), StorageError)
    finally:
        make_writable(device.place.parent)


@pytest.mark.parametrize("call", ["pwrite", "fsync", "replace"])
@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_a_failing_disk_changes_nothing(
    call: str, number: int, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This stands for a disk that fails at one call."""
    path, left, original = device.thin(2, 1), [number], getattr(os, call)

    def failing(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(*arguments)

    before = device.snapshot()
    monkeypatch.setattr(os, call, failing)
    with pytest.raises(StorageError):
        device.install(path)
    monkeypatch.undo()
    assert device.snapshot() == before
    device.install(path)
    device.require_release(2)


def test_other_disks_make_no_clone(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content")
    with small_disk(tmp_path / "disk", MIB) as disk:
        with (tmp_path / "source").open("rb") as source, (disk / "target").open("w+b") as target:
            assert not clone(source, target)
        assert (disk / "target").read_bytes() == b""


@pytest.fixture
def sharing(tmp_path: Path) -> Iterator[Device]:
    """A device with release 1 on a disk of XFS, where two files can share their bytes; so can the carried ones."""
    program = shutil.which("mkfs.xfs")
    if program is None:
        missing("XFS", "mkfs.xfs is not installed")
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(320 * MIB)  # mkfs.xfs makes no smaller ones
    subprocess.run([program, "-q", "-m", "reflink=1", image], check=True)
    with mounted(tmp_path / "disk", "-t", "xfs", "-o", "loop", str(image)):
        made = Device(tmp_path / "disk")
        made.install(made.full(1))
        yield made


def test_where_bytes_are_shared_a_full_archive_needs_no_room(sharing: Device) -> None:
    path = sharing.full(2)
    filler = fill(sharing.place.parent, MIB)
    sharing.install(path)
    filler.unlink()
    sharing.require_release(2)
    assert sharing.place.read_bytes() == path.read_bytes()


def test_a_damaged_clone_is_not_installed(sharing: Device) -> None:
    good, path = sharing.thin(2, 1).read_bytes(), sharing.carried / "damaged.enc"
    before = sharing.snapshot()
    for what, data in damaged(good).items():
        path.write_bytes(data)
        with pytest.raises(ArchiveCorrupt):
            install(path, sharing.place, "2", unwatched)
        assert sharing.snapshot() == before, what
    sharing.install(sharing.thin(2, 1))
    sharing.require_release(2)
    assert contents(sharing.place) == contents(sharing.full(2))
