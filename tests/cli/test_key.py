"""Key fragments in files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from loader.cli.key import new_fragment, read_fragment
from loader.errors import DiskSpace, KeyMismatch, StorageError
from tests.support.small_disk import fill, small_disk


@pytest.mark.parametrize("size", [32, 33, 4096])
def test_a_fragment_of_a_right_size_is_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "key"
    fragment = os.urandom(size - 1) + b"\n"
    path.write_bytes(fragment)
    assert read_fragment(path) == fragment


@pytest.mark.parametrize("size", [0, 31, 4097, 1_000_000])
def test_a_fragment_of_a_wrong_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(bytes(size))
    with pytest.raises(KeyMismatch, match=f"has {size} bytes, not 32 to 4096"):
        read_fragment(path)


def test_fragments_are_random_and_never_overwritten(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    new_fragment(first)
    new_fragment(second)
    assert first.read_bytes() != second.read_bytes()
    assert len(first.read_bytes()) == 32
    before = first.read_bytes()
    with pytest.raises(StorageError, match="File exists"):
        new_fragment(first)
    assert first.read_bytes() == before


def test_a_full_disk_leaves_no_fragment(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        fill(disk, leave=0)
        with pytest.raises(DiskSpace):
            new_fragment(disk / "key")
        assert not (disk / "key").exists()


def test_a_fragment_is_on_the_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose directory was not synced may be gone after a power cut."""
    synced: list[Path] = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    new_fragment(tmp_path / "key")
    assert synced == [tmp_path / "key", tmp_path]


def test_a_fragment_whose_name_the_disk_does_not_take_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake for a disk that fails while the directory is synced."""

    def fail(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        new_fragment(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []
